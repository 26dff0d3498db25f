//! UDP: aggregates of datagrams, fragments, and what is too big.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tests::netns::Netns;
use tests::traffic::ping::ping_with;

use super::{Pair, drops, fallbacks, grows_by, packets};

const PORT: u16 = 7100;
/// Payload of an aggregate that is one packet yet, but not any more with outer headers.
const LONGEST: usize = 65_480;

struct Receiver(UdpSocket);

impl Receiver {
    fn bind(netns: &Netns, address: SocketAddr) -> Result<Self> {
        let socket = netns.run(|| UdpSocket::bind(address).context("bind"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)).context("enlarge the buffer")?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(socket))
    }

    /// Takes the datagrams that were sent, in any order, and no other.
    fn expect(&self, mut sent: Vec<Vec<u8>>) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let length = self.0.recv(&mut buffer).with_context(|| {
                format!("{} of {} datagrams arrived", received.len(), sent.len())
            })?;
            received.push(buffer[..length].to_vec());
        }
        self.0.set_nonblocking(true)?;
        if self.0.recv(&mut buffer).is_ok() {
            bail!("more than {} datagrams arrived", sent.len());
        }
        sent.sort_unstable();
        received.sort_unstable();
        ensure!(sent == received, "the datagrams arrived changed");
        Ok(())
    }
}

/// Sends noise, cut into datagrams of `segment` bytes by whoever does it last. What is to arrive.
fn send_segmented(
    from: &Netns,
    to: SocketAddr,
    segment: u16,
    times: usize,
    length: usize,
) -> Result<Vec<Vec<u8>>> {
    let socket = from.run(|| UdpSocket::bind(("0.0.0.0", 0)).context("bind"))?;
    socket.connect(to)?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(segment)).context("UDP_SEGMENT")?;
    let mut datagrams = Vec::new();
    for _ in 0..times {
        let payload: Vec<u8> = (0..length).map(|_| rand::random()).collect();
        let sent = socket.send(&payload).context("send an aggregate")?;
        ensure!(sent == length, "{sent} of {length} bytes sent");
        datagrams.extend(payload.chunks(segment.into()).map(<[u8]>::to_vec));
    }
    Ok(datagrams)
}

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
