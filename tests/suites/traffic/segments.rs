//! Super-packets stay whole.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tests::capture::{Capture, fields};
use tests::command::output;
use tests::lab::UNDERLAY;
use tests::netns::Netns;
use tests::traffic::tcp::transfer;
use tests::workdir::WorkDir;

use super::{Pair, bytes, fallbacks, packets};

const BYTES: u64 = 48 << 20;
/// No link here has an MTU as large.
const WHOLE: u64 = 20_000;

/// Records the frames that no single segment is as long as.
pub(super) struct Large {
    capture: Capture,
    _folder: WorkDir,
}

impl Large {
    pub(super) fn start(netns: &Netns, device: &str, filter: &str) -> Result<Self> {
        let folder = WorkDir::new("large")?;
        let filter = format!("{filter} and greater {WHOLE}");
        let capture = Capture::headers(netns, device, &filter, folder.path())?;
        Ok(Self {
            capture,
            _folder: folder,
        })
    }

    /// Bytes in them.
    pub(super) fn stop(self) -> Result<u64> {
        let file: PathBuf = self.capture.stop()?;
        let rows = fields(&file, "", &["frame.len"])?;
        rows.iter().try_fold(0, |sum, row| {
            let length: u64 = row[0].parse().context("frame.len")?;
            Ok(sum + length)
        })
    }
}

/// On the underlay and in the receiving container, there and back; and none on the slow path.
#[test]
fn of_tcp() -> Result<()> {
    let pair = Pair::new()?;
    for way in pair.ways() {
        let ((from, here), (to, there)) = (way.from, way.to);
        let (sent, received) = (packets(here, "tx")?, packets(there, "rx")?);
        let (sent_bytes, received_bytes) = (bytes(here, "tx")?, bytes(there, "rx")?);
        let tunnelled = format!("src host {} and udp dst port 4789", here.ip());
        let underlay = Large::start(there.netns(), UNDERLAY, &tunnelled)?;
        let inside = Large::start(&to.netns, "eth0", &format!("src host {}", from.ip))?;
        transfer(&from.netns, &to.netns, to.address(5001), BYTES)?.verify()?;
        for (where_to, whole) in [
            ("underlay", underlay.stop()?),
            ("container", inside.stop()?),
        ] {
            ensure!(
                whole > BYTES / 2,
                "on the {where_to} {whole} of {BYTES} bytes were in super-packets"
            );
        }
        for (host, direction) in [(here, "tx"), (there, "rx")] {
            for cause in ["inner_aggregate", "room_refused", "oversize"] {
                let count = fallbacks(host, direction, cause)?;
                ensure!(count == 0, "{direction} {cause}: {count} on the slow path");
            }
        }
        // Whole or not, each segment counts, at both ends.
        let (sent, received) = (
            packets(here, "tx")? - sent,
            packets(there, "rx")? - received,
        );
        let (sent_bytes, received_bytes) = (
            bytes(here, "tx")? - sent_bytes,
            bytes(there, "rx")? - received_bytes,
        );
        ensure!(
            (sent, sent_bytes) == (received, received_bytes),
            "{sent} packets of {sent_bytes} bytes sent, {received} of {received_bytes} received"
        );
        ensure!(
            sent > BYTES / 1450,
            "{sent} packets cannot carry {BYTES} bytes"
        );
    }
    Ok(())
}

/// As over a wire: the sender's device cuts everything to the MTU. The fallback device's socket
/// is what has the kernel merge it again before the programs see it.
#[test]
fn of_tcp_are_made_on_receipt() -> Result<()> {
    let pair = Pair::new()?;
    let [way, _] = pair.ways();
    let ((from, here), (to, there)) = (way.from, way.to);
    offload(here.netns(), UNDERLAY, &["tso", "off", "gso", "off"])?;
    // A veth merges when it is told to, and only what its other end has not left whole.
    let switch = pair.world.lab.switch().context("no switch")?;
    offload(switch, "p2", &["tso", "off"])?;
    offload(there.netns(), UNDERLAY, &["gro", "on"])?;
    let tunnelled = format!("src host {} and udp dst port 4789", here.ip());
    let underlay = Large::start(here.netns(), UNDERLAY, &tunnelled)?;
    let inside = Large::start(&to.netns, "eth0", &format!("src host {}", from.ip))?;
    let received = packets(there, "rx")?;
    transfer(&from.netns, &to.netns, to.address(5001), BYTES)?.verify()?;
    let (cut, merged) = (underlay.stop()?, inside.stop()?);
    ensure!(cut == 0, "the sender's device does not cut: {cut} bytes");
    ensure!(
        merged > BYTES / 4,
        "{merged} of {BYTES} bytes arrived in super-packets"
    );
    let received = packets(there, "rx")? - received;
    ensure!(
        received > BYTES / 1450,
        "{received} packets cannot carry {BYTES} bytes"
    );
    for cause in ["inner_aggregate", "room_refused"] {
        let count = fallbacks(there, "rx", cause)?;
        ensure!(count == 0, "{cause}: {count} on the slow path");
    }
    Ok(())
}

pub(super) fn offload(netns: &Netns, device: &str, features: &[&str]) -> Result<()> {
    let mut ethtool = netns.command("ethtool")?;
    output(ethtool.args(["-K", device]).args(features))?;
    Ok(())
}
