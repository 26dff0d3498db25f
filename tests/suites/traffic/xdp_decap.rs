//! Decapsulation in XDP, on veths that run the program in their driver.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use overlay_common::net::MacAddr;
use tests::lab::{Family, Host, UNDERLAY};
use tests::traffic::tcp::transfer;
use tests::traffic::udp::{UdpCounter, send};
use tests::wait::until;

use super::segments::{Large, offload};
use super::{Pair, bytes, drops, fallbacks, packets};
use crate::isolation::counted;
use crate::support::{
    CONVERGE, Container, PacketSocket, StoreKind, World, reachable, send_vxlan, vni_of,
};

const BYTES: u64 = 48 << 20;
const PORT: u16 = 7200;

/// Two hosts whose agents have XDP decapsulate.
pub(super) fn world() -> Result<World> {
    world_over(Family::V4)
}

fn world_over(underlay: Family) -> Result<World> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    for host in &mut world.lab.hosts {
        if underlay == Family::V6 {
            host.station.add_ipv6()?;
            host.vteps = vec![host.station.ip6.into()];
        }
        // As on a real NIC: a veth merges when it is told to.
        offload(host.netns(), UNDERLAY, &["gro", "on"])?;
    }
    world.start_agents(&["--xdp", "native", "--decap", "xdp"])?;
    Ok(world)
}

/// What the underlay device of the receiver hands on is the inner packets, merged.
fn arrives_merged(pair: &Pair) -> Result<()> {
    for way in pair.ways() {
        let ((from, here), (to, there)) = (way.from, way.to);
        let before = Count::of(here, there)?;
        let merged = Large::start(
            there.netns(),
            UNDERLAY,
            &format!("tcp and src host {}", from.ip),
        )?;
        let inside = Large::start(&to.netns, "eth0", &format!("src host {}", from.ip))?;
        transfer(&from.netns, &to.netns, to.address(5001), BYTES)?.verify()?;
        for (where_to, whole) in [("underlay", merged.stop()?), ("container", inside.stop()?)] {
            ensure!(
                whole > BYTES / 4,
                "on the {where_to} {whole} of {BYTES} bytes were in super-packets without a tunnel"
            );
        }
        // Merged or not, each segment counts. On a busy machine a queue may lose some, which TCP sends again.
        let Count { sent, received } = Count::of(here, there)?;
        let (sent, received) = (sent - before.sent, received - before.received);
        ensure!(
            received <= sent && sent - received <= sent / 100,
            "{sent} packets sent, {received} received"
        );
        ensure!(
            received > BYTES / 1450,
            "{received} packets cannot carry {BYTES} bytes"
        );
    }
    Ok(())
}

struct Count {
    sent: u64,
    received: u64,
}

impl Count {
    fn of(here: &Host, there: &Host) -> Result<Self> {
        Ok(Self {
            sent: packets(here, "tx")?,
            received: packets(there, "rx")?,
        })
    }
}

#[test]
fn tcp_is_merged_without_its_tunnel() -> Result<()> {
    let pair = Pair::on(world()?)?;
    let status = pair.world.host(1).cli_json(&["status"])?;
    ensure!(status["underlay"]["decap"] == "xdp", "{status}");
    arrives_merged(&pair)?;
    // The device's own address is how XDP tells what is for this host.
    let new = ["link", "set", UNDERLAY, "address", "02:00:5e:00:53:09"];
    pair.world.host(2).netns().ip(&new)?;
    reachable(&pair.one, &pair.two, 3)?;
    until(CONVERGE, || arrives_merged(&pair))
}

#[test]
fn over_ipv6() -> Result<()> {
    arrives_merged(&Pair::on(world_over(Family::V6)?)?)
}

/// UDP, ICMP and ARP are not for XDP: nothing changes for them.
#[test]
fn other_traffic_arrives() -> Result<()> {
    let pair = Pair::on(world()?)?;
    let [way, _] = pair.ways();
    let ((from, _), (to, there)) = (way.from, way.to);
    let receiver = UdpCounter::start(&to.netns, to.address(PORT), None)?;
    let (received, inner_bytes) = (packets(there, "rx")?, bytes(there, "rx")?);
    send(&from.netns, to.address(PORT), 1000, 500, Duration::ZERO)?;
    until(CONVERGE, || {
        let arrived = receiver.received();
        ensure!(arrived == 500, "{arrived} of 500 datagrams arrived");
        Ok(())
    })?;
    reachable(from, to, 10)?;
    let (received, inner_bytes) = (
        packets(there, "rx")? - received,
        bytes(there, "rx")? - inner_bytes,
    );
    ensure!(received >= 511, "{received} packets counted");
    ensure!(inner_bytes >= 500 * 1042, "{inner_bytes} bytes counted");
    for reason in ["inner_source", "unknown_destination", "truncated"] {
        let count = drops(there, reason)?;
        ensure!(count == 0, "{reason}: {count}");
    }
    let aggregates = fallbacks(there, "rx", "inner_aggregate")?;
    ensure!(aggregates == 0, "{aggregates} aggregates");
    Ok(())
}

/// What XDP takes out of its tunnel has passed the checks of Rule 2.
#[test]
fn forged_tcp_is_refused() -> Result<()> {
    let mut world = world()?;
    let stranger = world.lab.station("stranger")?;
    let pair = Pair::on(world)?;
    let world = &pair.world;
    let (here, peer) = (world.host(1), world.host(2).netns());
    let vni = vni_of(here, "blue")?;
    let other = MacAddr([2, 9, 9, 9, 9, 9]);
    let (one, two) = (&pair.one, &pair.two);
    // ETH_P_IP of `linux/if_ether.h`.
    let delivered = one.netns.run(|| PacketSocket::open(0x0800))?;

    let good = segment(two, two.mac, one, one.mac)?;
    counted(here, "unknown_peer", "rx", || {
        send_vxlan(&stranger.netns, here, vni, &good, false)
    })?;
    counted(here, "unknown_vni", "rx", || {
        send_vxlan(peer, here, 0xff_fffe, &good, false)
    })?;
    for (reason, source, destination) in [
        ("inner_source", other, one.mac),
        ("inner_source", one.mac, one.mac),
        ("unknown_destination", two.mac, other),
        ("not_local", two.mac, two.mac),
    ] {
        let frame = segment(two, source, one, destination)?;
        counted(here, reason, "rx", || {
            send_vxlan(peer, here, vni, &frame, false)
        })?;
    }
    // The same frame from its true VTEP is delivered, and it is the first.
    let received = packets(here, "rx")?;
    send_vxlan(peer, here, vni, &good, false)?;
    let first = until(CONVERGE, || {
        delivered.receive()?.context("nothing was delivered")
    })?;
    ensure!(first == good, "{first:02x?} was delivered");
    let received = packets(here, "rx")? - received;
    ensure!(received == 1, "{received} packets were counted");
    Ok(())
}

/// A TCP reset, which nobody answers.
fn segment(
    from: &Container,
    source: MacAddr,
    to: &Container,
    destination: MacAddr,
) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source.0, destination.0)
        .ipv4(from.ip.octets(), to.ip.octets(), 64)
        .tcp(4000, 5000, 1, 1000)
        .rst()
        .write(&mut frame, b"overlay test segment")
        .context("build a frame")?;
    Ok(frame)
}
