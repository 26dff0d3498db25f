//! What is not plain IPv4.

use anyhow::{Context as _, Result, ensure};
use tests::traffic::ping::ping;
use tests::traffic::tcp::transfer;
use tests::wait::until;

use crate::support::nested::nest;
use crate::support::{CONVERGE, PacketSocket, StoreKind, World};

use super::{Pair, fallbacks, grows_by, packets};

/// For local experiments (IEEE 802).
const ETHERTYPE: u16 = 0x88b5;

#[test]
fn any_ethertype_arrives() -> Result<()> {
    const FRAMES: u8 = 20;
    let pair = Pair::new()?;
    for way in pair.ways() {
        let ((from, here), (to, there)) = (way.from, way.to);
        let receiver = to.netns.run(|| PacketSocket::open(ETHERTYPE))?;
        let sender = from.netns.run(|| PacketSocket::open(0))?;
        let (sent, received) = (packets(here, "tx")?, packets(there, "rx")?);
        let out = fallbacks(here, "tx", "inner_not_ip")?;
        let back = fallbacks(there, "rx", "inner_not_ip")?;
        for n in 0..FRAMES {
            let mut frame = [to.mac.0, from.mac.0].concat();
            frame.extend(ETHERTYPE.to_be_bytes());
            // From one byte to a full frame.
            frame.resize(14 + 1 + usize::from(n) * 1449 / usize::from(FRAMES - 1), n);
            sender.send(&frame)?;
            let arrived = until(CONVERGE, || receiver.receive()?.context("did not arrive"))?;
            ensure!(arrived == frame, "frame {n} arrived as {arrived:02x?}");
        }
        ensure!(receiver.receive()?.is_none(), "a frame arrived twice");
        let frames = u64::from(FRAMES);
        grows_by(frames, "sent", sent, || packets(here, "tx"))?;
        grows_by(frames, "received", received, || packets(there, "rx"))?;
        grows_by(frames, "out by the slow path", out, || {
            fallbacks(here, "tx", "inner_not_ip")
        })?;
        grows_by(frames, "in by the slow path", back, || {
            fallbacks(there, "rx", "inner_not_ip")
        })?;
    }
    Ok(())
}

#[test]
fn ipv6_inside() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("six", &["--subnet", "fd00:8::/64"])?;
    let ends = [(1, "02:00:00:00:08:01"), (2, "02:00:00:00:08:02")];
    let mut netns = Vec::new();
    for (n, mac) in ends {
        let container = world.host(n).container("six")?;
        let path = container.path();
        let path = path.to_str().context("path")?;
        let ip = format!("fd00:8::1{n}");
        let base = ["endpoint", "add", "--network", "six", "--netns", path];
        let more = ["--ip", &ip, "--mac", mac];
        world.host(n).cli_ok(&[&base[..], &more].concat())?;
        netns.push(container);
    }
    let ip = |n: usize| format!("fd00:8::1{n}").parse::<std::net::IpAddr>();
    for (from, to) in [(1, 2), (2, 1)] {
        until(CONVERGE, || {
            let summary = ping(&netns[from - 1], ip(to)?, 1)?;
            ensure!(summary.lost() == 0, "no answer");
            Ok(())
        })?;
        let summary = ping(&netns[from - 1], ip(to)?, 10)?;
        ensure!(summary.sent == 10 && summary.lost() == 0, "{summary:?}");
        let address = (ip(to)?, 5001).into();
        transfer(&netns[from - 1], &netns[to - 1], address, 64 << 20)?.verify()?;
    }
    for (host, direction) in [(1, "tx"), (2, "rx"), (2, "tx"), (1, "rx")] {
        for cause in ["inner_not_ip", "inner_aggregate", "room_refused"] {
            let count = fallbacks(world.host(host), direction, cause)?;
            ensure!(count == 0, "host {host} {direction} {cause}: {count}");
        }
    }
    Ok(())
}

/// A tunnel between the containers: what it sends is marked as encapsulated, and the fast path
/// cannot do that twice.
#[test]
fn a_tunnel_in_the_tunnel() -> Result<()> {
    let pair = Pair::new()?;
    nest(&pair.one, &pair.two, "10.99.0.1/24", "1400")?;
    nest(&pair.two, &pair.one, "10.99.0.2/24", "1400")?;
    let nested: std::net::IpAddr = "10.99.0.2".parse()?;
    let summary = ping(&pair.one.netns, nested, 10)?;
    ensure!(summary.sent == 10 && summary.lost() == 0, "{summary:?}");
    let address = (nested, 5001).into();
    transfer(&pair.one.netns, &pair.two.netns, address, 32 << 20)?.verify()?;
    // Segments one way and acknowledgements the other: their checksums are left to the device.
    for host in [1, 2] {
        let refused = fallbacks(pair.world.host(host), "tx", "room_refused")?;
        ensure!(refused > 0, "the fast path took it: nothing was tested");
    }
    Ok(())
}
