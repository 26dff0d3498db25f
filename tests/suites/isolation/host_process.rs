//! A process of the host that speaks VXLAN itself.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::traffic::udp::{UdpCounter, send};

use super::{PORT, counted};
use crate::support::families::BOTH;
use crate::support::{StoreKind, World, reachable, send_vxlan, udp_frame, vni_of, vxlan_payload};

/// One datagram, which the kernel sends in fragments: the port is in the first.
#[test]
fn fragments_of_a_process() -> Result<()> {
    let world = World::over(&[BOTH, BOTH])?;
    world.create_network("blue", &["--subnet", "10.9.0.0/24"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let vni = vni_of(world.host(1), "blue")?;
    let delivered = UdpCounter::start(&one.netns, one.address(PORT), None)?;
    let (here, there) = (world.host(1), world.host(2));
    let mut inner = Vec::new();
    etherparse::PacketBuilder::ethernet2(two.mac.0, one.mac.0)
        .ipv4(two.ip.octets(), one.ip.octets(), 64)
        .udp(5555, PORT)
        .write(&mut inner, &[0x5a; 3000])?;
    let payload = vxlan_payload(vni, &inner);
    for family in BOTH {
        let to = (here.station.address_of(*family), 4789);
        counted(there, "forged", "tx", || {
            there.netns().run(|| {
                let any = if to.0.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                let socket = UdpSocket::bind(any).context("bind")?;
                socket.send_to(&payload, to).context("send")?;
                Ok(())
            })
        })?;
    }
    // Nothing came before this.
    let small = udp_frame((two.mac, two.ip), (one.mac, one.ip), PORT)?;
    send_vxlan(there.netns(), here, vni, &small, true)?;
    tests::wait::until(Duration::from_secs(5), || {
        ensure!(delivered.received() > 0, "nothing was delivered");
        Ok(())
    })?;
    ensure!(delivered.stop()? == 1, "a forged frame was delivered");
    Ok(())
}

/// What it sends to a peer goes nowhere, by which address it may be sent; what it sends elsewhere
/// is none of our business.
#[test]
fn vxlan_of_a_process() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.9.0.0/24"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let vni = vni_of(world.host(1), "blue")?;
    let delivered = UdpCounter::start(&one.netns, one.address(PORT), None)?;
    let (here, there) = (world.host(1), world.host(2));
    // All that the receiver checks is right: it cannot tell.
    let inner = udp_frame((two.mac, two.ip), (one.mac, one.ip), PORT)?;
    let payload = vxlan_payload(vni, &inner);

    for connected in [false, true] {
        counted(there, "forged", "tx", || {
            there.netns().run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").context("bind")?;
                let to = (here.ip(), 4789);
                if connected {
                    socket.connect(to).context("connect")?;
                    socket.send(&payload).context("send")?;
                } else {
                    socket.send_to(&payload, to).context("send")?;
                }
                Ok(())
            })
        })?;
    }
    // The same payload past the guard is delivered, and nothing before it was.
    send_vxlan(there.netns(), here, vni, &inner, true)?;
    tests::wait::until(Duration::from_secs(5), || {
        ensure!(delivered.received() > 0, "nothing was delivered");
        Ok(())
    })?;
    ensure!(delivered.stop()? == 1, "a forged frame was delivered");

    // Another port of a peer is free.
    let counter = UdpCounter::start(here.netns(), (here.ip(), PORT).into(), None)?;
    send(
        there.netns(),
        (here.ip(), PORT).into(),
        100,
        10,
        Duration::ZERO,
    )?;
    tests::wait::until(Duration::from_secs(5), || {
        ensure!(counter.received() == 10, "{} of 10", counter.received());
        Ok(())
    })
}
