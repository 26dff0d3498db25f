//! UDP: aggregates of datagrams, fragments, and what is too big.

use anyhow::{Context as _, Result, ensure};
use tests::traffic::ping::ping_with;

use super::{Pair, drops, fallbacks, grows_by, packets};
use crate::support::datagrams::{Receiver, send_segmented};

const PORT: u16 = 7100;
/// Payload of an aggregate that is one packet yet, but not any more with outer headers.
const LONGEST: usize = 65_480;

#[test]
fn aggregates_arrive_datagram_by_datagram() -> Result<()> {
    let pair = Pair::new()?;
    for way in pair.ways() {
        let ((from, here), (to, there)) = (way.from, way.to);
        for (segment, times, length) in [
            (1400, 20, 40 * 1400),
            // The last one shorter.
            (1000, 20, 50 * 1000 + 1),
            // Two datagrams.
            (700, 20, 1400),
            // With outer headers longer than an IP packet can be.
            (1400, 20, LONGEST),
        ] {
            let receiver = Receiver::bind(&to.netns, to.address(PORT))?;
            let (sent, received) = (packets(here, "tx")?, packets(there, "rx")?);
            let oversize = fallbacks(here, "tx", "oversize")?;
            let to = to.address(PORT);
            let datagrams = send_segmented(&from.netns, to, segment, times, length)?;
            let count = datagrams.len() as u64;
            receiver
                .expect(datagrams)
                .with_context(|| format!("segments of {segment}, aggregates of {length}"))?;
            let what = format!("{length} bytes in segments of {segment}");
            grows_by(count, &format!("{what} sent"), sent, || packets(here, "tx"))?;
            grows_by(count, &format!("{what} received"), received, || {
                packets(there, "rx")
            })?;
            let too_long = if length == LONGEST { times } else { 0 };
            grows_by(too_long as u64, &what, oversize, || {
                fallbacks(here, "tx", "oversize")
            })?;
        }
    }
    Ok(())
}

#[test]
fn inner_fragments_arrive() -> Result<()> {
    let pair = Pair::new()?;
    for way in pair.ways() {
        let ((from, here), (to, _)) = (way.from, way.to);
        for size in [1423, 4000, 65_000] {
            let sent = packets(here, "tx")?;
            let options = ["-M", "dont", "-s", &size.to_string()];
            let summary = ping_with(&from.netns, to.ip.into(), 5, &options)?;
            ensure!(
                summary.sent == 5 && summary.lost() == 0,
                "{size}: {summary:?}"
            );
            // IPv4 fragments carry 1424 bytes each here.
            let fragments = 5 * (size + 8u64).div_ceil(1424);
            ensure!(fragments > 5, "{size} is one packet");
            grows_by(fragments, "fragments", sent, || packets(here, "tx"))?;
        }
    }
    Ok(())
}

/// A container that believes in a larger MTU: to the byte what fits arrives, what does not is counted.
#[test]
fn too_big_is_dropped_and_counted() -> Result<()> {
    let pair = Pair::new()?;
    let host = pair.world.host(1);
    let set = ["link", "set", "eth0", "mtu", "2000"];
    pair.one.netns.ip(&set)?;
    let ping = |size: &str| {
        let options = ["-M", "do", "-s", size];
        ping_with(&pair.one.netns, pair.two.ip.into(), 4, &options)
    };
    // 1450 bytes of IP: the underlay's 1500 are full.
    let (dropped, sent) = (drops(host, "too_big")?, packets(host, "tx")?);
    ensure!(ping("1422")?.lost() == 0);
    ensure!(drops(host, "too_big")? == dropped);
    grows_by(4, "sent", sent, || packets(host, "tx"))?;

    // The first one teaches the sender's kernel, which then sends no more.
    let sent = packets(host, "tx")?;
    ensure!(ping("1423")?.lost() == 4);
    grows_by(1, "too big", dropped, || drops(host, "too_big"))?;
    ensure!(
        packets(host, "tx")? == sent,
        "what was dropped was counted as sent"
    );
    Ok(())
}
