//! Super-packets stay whole.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tests::capture::{Capture, fields};
use tests::lab::UNDERLAY;
use tests::netns::Netns;
use tests::traffic::tcp::transfer;
use tests::workdir::WorkDir;

use super::{Pair, bytes, fallbacks, packets};

const BYTES: u64 = 48 << 20;
/// No link here has an MTU as large.
const WHOLE: u64 = 20_000;

/// Records the frames that no single segment is as long as.
struct Large {
    capture: Capture,
    _folder: WorkDir,
}

impl Large {
    fn start(netns: &Netns, device: &str, filter: &str) -> Result<Self> {
        let folder = WorkDir::new("large")?;
        let filter = format!("{filter} and greater {WHOLE}");
        let capture = Capture::start(netns, device, &filter, folder.path())?;
        Ok(Self {
            capture,
            _folder: folder,
        })
    }

    /// Bytes in them.
    fn stop(self) -> Result<u64> {
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
