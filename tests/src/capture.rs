//! Recording packets and decoding them with a dissector that is not ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{capture, line},
    netns::Netns,
    process::Daemon,
};

/// A running tcpdump.
#[derive(Debug)]
pub struct Capture {
    daemon: Daemon,
    file: PathBuf,
}

impl Capture {
    /// Records what passes `device` and matches `filter` (pcap syntax) from the moment this
    /// returns.
    pub fn start(netns: &Netns, device: &str, filter: &str, folder: &Path) -> Result<Self> {
        Self::with(netns, device, filter, folder, &[])
    }

    /// The same for bursts of packets up to 2048 bytes: tcpdump's buffer has room for 8 of the
    /// longest packets that it was told to expect.
    pub fn bursts(netns: &Netns, device: &str, filter: &str, folder: &Path) -> Result<Self> {
        let options = ["-s", "2048", "-B", "16384"];
        Self::with(netns, device, filter, folder, &options)
    }

    /// The same for the first 128 bytes of each packet: of a bulk transfer, more than that is
    /// more than tcpdump can keep up with.
    pub fn headers(netns: &Netns, device: &str, filter: &str, folder: &Path) -> Result<Self> {
        let options = ["-s", "128", "-B", "16384"];
        Self::with(netns, device, filter, folder, &options)
    }

    fn with(
        netns: &Netns,
        device: &str,
        filter: &str,
        folder: &Path,
        options: &[&str],
    ) -> Result<Self> {
        let file = folder.join("packets.pcap");
        let log = folder.join("tcpdump.log");
        let mut command = netns.command("tcpdump")?;
        // Handed over and written packet by packet, so that a stop loses none.
        command.args([
            "-i",
            device,
            "--immediate-mode",
            "-U",
            "-n",
            "-Z",
            "root",
            "-w",
        ]);
        command.arg(&file).args(options).arg(filter);
        let mut daemon = Daemon::spawn("tcpdump", command, &log)?;
        daemon.wait_ready(Duration::from_secs(10), || {
            let said = fs::read_to_string(&log).context("read tcpdump's log")?;
            if !said.contains("listening on") {
                bail!("tcpdump does not listen yet");
            }
            Ok(())
        })?;
        Ok(Self { daemon, file })
    }

    /// Where the packets are written, each as soon as it was seen.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Ends the recording; its file.
    pub fn stop(mut self) -> Result<PathBuf> {
        self.daemon.stop(Duration::from_secs(10))?;
        Ok(self.file.clone())
    }
}

/// The bytes of the packets recorded so far, in the classic format that tcpdump writes. A packet
/// that is only half written yet is left out.
///
/// # Errors
/// The file is of another format, or a packet was cut.
pub fn frames(file: &Path) -> Result<Vec<Vec<u8>>> {
    /// Microseconds, in this machine's byte order.
    const MAGIC: u32 = 0xa1b2_c3d4;
    const FILE_HEADER: usize = 24;
    const PACKET_HEADER: usize = 16;

    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let number = |at: usize| -> Option<u32> {
        let field = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(field.try_into().ok()?))
    };
    if number(0) != Some(MAGIC) {
        bail!("{} is no recording of tcpdump", file.display());
    }
    let mut frames = Vec::new();
    let mut at = FILE_HEADER;
    while let (Some(kept), Some(length)) = (number(at + 8), number(at + 12)) {
        if kept != length {
            bail!("a packet of {length} bytes was cut to {kept}");
        }
        let start = at + PACKET_HEADER;
        let end = start + kept as usize;
        let Some(frame) = bytes.get(start..end) else {
            break;
        };
        frames.push(frame.to_vec());
        at = end;
    }
    Ok(frames)
}

/// One row per packet, with the named fields as tshark prints them (empty where absent).
/// `filter` is a display filter; "" takes all. A field that occurs twice (outer and inner
/// header) gives its first occurrence.
pub fn fields(file: &Path, filter: &str, names: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command
        .arg("-n")
        .arg("-r")
        .arg(file)
        .args(["-T", "fields", "-E", "occurrence=f"]);
    if !filter.is_empty() {
        command.args(["-Y", filter]);
    }
    for name in names {
        command.args(["-e", name]);
    }
    // It warns on standard error when run as root: only the exit code counts.
    let output = capture(&mut command)?;
    if !output.status.success() {
        bail!(
            "`{}`: {}",
            line(&command),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let rows = String::from_utf8_lossy(&output.stdout);
    Ok(rows
        .lines()
        .map(|row| row.split('\t').map(str::to_owned).collect())
        .collect())
}
