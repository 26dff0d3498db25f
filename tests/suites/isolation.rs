//! Nothing gets out of a VNI, nothing forged gets in; each refusal under its own name.

mod first_moment;
mod host_process;
mod other_device;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_common::net::MacAddr;
use tests::lab::Host;
use tests::traffic::udp::{UdpCounter, send};
use tests::wait::until;

use crate::support::{
    CONVERGE, Container, StoreKind, World, count, mac_of, reachable, send_raw, send_unguarded,
    send_vxlan, udp_frame, vni_of, vxlan_payload,
};

const PORT: u16 = 7000;

#[test]
fn two_networks_with_the_same_addresses() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    let subnet = ["--subnet", "10.9.0.0/24"];
    world.create_network("blue", &subnet)?;
    world.create_network("red", &subnet)?;
    let fixed = |n: usize, net: &str, label: &str, ip: &str| -> Result<Container> {
        let host = world.host(n);
        let netns = host.container(label)?;
        let ip = host.add_endpoint(net, &netns, &["--ip", ip, "--name", label])?;
        let mac = mac_of(&netns)?;
        Ok(Container { netns, ip, mac })
    };
    let blue1 = fixed(1, "blue", "blue1", "10.9.0.11")?;
    let blue2 = fixed(2, "blue", "blue2", "10.9.0.12")?;
    let red1 = fixed(1, "red", "red1", "10.9.0.11")?;
    let red2 = fixed(2, "red", "red2", "10.9.0.12")?;
    ensure!(
        (blue1.ip, blue1.mac, blue2.ip, blue2.mac) == (red1.ip, red1.mac, red2.ip, red2.mac),
        "the networks were to have the same addresses"
    );
    reachable(&blue1, &blue2, 5)?;
    reachable(&red1, &red2, 5)?;

    let in_blue = UdpCounter::start(&blue2.netns, blue2.address(PORT), None)?;
    let in_red = UdpCounter::start(&red2.netns, red2.address(PORT), None)?;
    send(&blue1.netns, blue2.address(PORT), 100, 300, Duration::ZERO)?;
    send(&red1.netns, red2.address(PORT), 100, 200, Duration::ZERO)?;
    until(CONVERGE, || {
        ensure!(
            in_blue.received() >= 300 && in_red.received() >= 200,
            "{} and {} arrived",
            in_blue.received(),
            in_red.received()
        );
        Ok(())
    })?;
    // A frame that crossed would have made one of these larger.
    ensure!(in_blue.stop()? == 300 && in_red.stop()? == 200);
    Ok(())
}

/// Each forged frame is dropped under its reason; none is delivered.
#[test]
fn forged_frames() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let stranger = world.lab.station("stranger")?;
    world.create_network("blue", &["--subnet", "10.9.0.0/24"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let vni = vni_of(world.host(1), "blue")?;
    let delivered = UdpCounter::start(&one.netns, one.address(PORT), None)?;

    let host1 = world.host(1);
    let peer = world.host(2).netns();
    let other = MacAddr([2, 9, 9, 9, 9, 9]);
    let good = udp_frame((two.mac, two.ip), (one.mac, one.ip), PORT)?;
    let wrong_mac = udp_frame((other, two.ip), (one.mac, one.ip), PORT)?;
    let own_mac = udp_frame((one.mac, one.ip), (one.mac, one.ip), PORT)?;
    let nobody = udp_frame((two.mac, two.ip), (other, one.ip), PORT)?;

    // With a UDP checksum the frames take the fallback path: the same names there.
    for checksum in [false, true] {
        counted(host1, "unknown_peer", "rx", || {
            send_vxlan(&stranger.netns, host1, vni, &good, checksum)
        })?;
        counted(host1, "unknown_vni", "rx", || {
            send_vxlan(peer, host1, 0xff_fffe, &good, checksum)
        })?;
        counted(host1, "inner_source", "rx", || {
            send_vxlan(peer, host1, vni, &wrong_mac, checksum)
        })?;
        counted(host1, "inner_source", "rx", || {
            send_vxlan(peer, host1, vni, &own_mac, checksum)
        })?;
        counted(host1, "unknown_destination", "rx", || {
            send_vxlan(peer, host1, vni, &nobody, checksum)
        })?;
    }
    counted(host1, "source_mac", "tx", || {
        send_raw(
            &one.netns,
            &udp_frame((other, one.ip), (two.mac, two.ip), PORT)?,
        )
    })?;
    ensure!(delivered.received() == 0, "a forged frame was delivered");

    // The same frame from its true VTEP is delivered: what was dropped was dropped for its forgery.
    for checksum in [false, true] {
        let before = delivered.received();
        send_vxlan(peer, host1, vni, &good, checksum)?;
        until(CONVERGE, || {
            ensure!(delivered.received() == before + 1, "nothing was delivered");
            Ok(())
        })?;
    }
    Ok(())
}

/// A wire carries several networks: what is tagged is for another one, whatever its addresses. A tag
/// that names no VLAN, but a priority, changes nothing.
#[test]
fn tagged_on_the_underlay() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.9.0.0/24", "--vni", "42"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let delivered = UdpCounter::start(&one.netns, one.address(PORT), None)?;
    let (here, peer) = (world.host(1), world.host(2));
    let (mac, peer_mac) = (mac_of(here.netns())?, mac_of(peer.netns())?);
    let inner = udp_frame((two.mac, two.ip), (one.mac, one.ip), PORT)?;
    let mut plain = Vec::new();
    etherparse::PacketBuilder::ethernet2(peer_mac.0, mac.0)
        .ipv4(peer.ip().octets(), here.ip().octets(), 64)
        .udp(50000, 4789)
        .write(&mut plain, &vxlan_payload(42, &inner))?;
    // Without a UDP checksum: the fast path.
    plain[40..42].fill(0);
    let tagged = |tag: [u8; 2]| {
        let mut frame = plain.clone();
        frame.splice(12..12, [0x81, 0x00, tag[0], tag[1]]);
        frame
    };
    let in_vlan_7 = tagged([0x00, 0x07]);
    let by_kernel = || {
        let labels = [("cause", "outer_priority"), ("direction", "rx")];
        count(here, "overlay_fallback_packets_total", &labels)
    };

    let before = received(here)?;
    for n in 1..=5 {
        send_unguarded(peer.netns(), &in_vlan_7)?;
        send_unguarded(peer.netns(), &plain)?;
        until(CONVERGE, || {
            ensure!(
                delivered.received() >= n,
                "the plain frame is not delivered"
            );
            Ok(())
        })?;
    }
    // Nor is it marked as ours: the kernel may have a device for it.
    ensure!(by_kernel()? == 0, "a tagged frame was left to the kernel");
    let taken = received(here)? - before;
    ensure!(taken == 5.0, "{taken} frames were taken for ours");

    send_unguarded(peer.netns(), &tagged([0xe0, 0x00]))?;
    until(CONVERGE, || {
        ensure!(delivered.received() >= 6, "the priority is not ignored");
        Ok(())
    })?;
    ensure!(delivered.stop()? == 6, "a tagged frame was delivered");
    ensure!(by_kernel()? == 1, "{} by the kernel", by_kernel()?);
    Ok(())
}

fn received(host: &Host) -> Result<f64> {
    let sum = host
        .metrics()?
        .sum("overlay_vni_packets_total", &[("direction", "rx")])?;
    sum.context("no packets counted")
}

/// Exactly one drop more under this name, and no other name's count moves.
pub fn counted(
    host: &Host,
    reason: &str,
    direction: &str,
    act: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = Drops::of(host, reason, direction)?;
    act()?;
    let after = until(CONVERGE, || {
        let after = Drops::of(host, reason, direction)?;
        ensure!(after.named > before.named, "{reason}: still {after:?}");
        Ok(after)
    })?;
    ensure!(
        after.named == before.named + 1.0 && after.others == before.others,
        "{reason}: from {before:?} to {after:?}"
    );
    Ok(())
}

/// Drops of one scrape.
#[derive(Debug)]
struct Drops {
    named: f64,
    others: f64,
}

impl Drops {
    fn of(host: &Host, reason: &str, direction: &str) -> Result<Self> {
        let metrics = host.metrics()?;
        let sum = |labels: &[(&str, &str)]| -> Result<f64> {
            let sum = metrics.sum("overlay_vni_drops_total", labels)?;
            Ok(sum.unwrap_or(0.0))
        };
        let named = sum(&[("reason", reason), ("direction", direction)])?;
        // Containers send broadcasts of their own now and then.
        let noise = sum(&[("reason", "flood_disabled")])?;
        let others = sum(&[])? - named - noise;
        Ok(Self { named, others })
    }
}
