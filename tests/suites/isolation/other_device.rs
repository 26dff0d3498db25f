//! VXLAN in a peer's name that comes in by another device than the underlay's.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use tests::lab::UNDERLAY;
use tests::traffic::udp::UdpCounter;
use tests::wait::until;

use super::{PORT, counted};
use crate::support::{
    CONVERGE, StoreKind, World, mac_of, mac_of_device, reachable, send_raw, send_vxlan, udp_frame,
    vni_of, vxlan_payload,
};

/// A container that the host routes for, as Docker's bridge does: what it sends reaches the socket of the
/// VXLAN port, by whichever address of the host.
#[test]
fn vxlan_of_a_routed_container() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.9.0.0/24"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let vni = vni_of(world.host(1), "blue")?;
    let delivered = UdpCounter::start(&one.netns, one.address(PORT), None)?;

    let (host, peer) = (world.host(1), world.host(2));
    let routed = host.container("routed")?;
    host.netns().connect("side0", &routed, UNDERLAY)?;
    let gateway = Ipv4Addr::new(172, 17, 0, 1);
    host.netns()
        .ip(&["addr", "add", "172.17.0.1/16", "dev", "side0"])?;
    for device in ["all", "side0"] {
        host.netns()
            .sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "0")?;
    }
    let inner = udp_frame((two.mac, two.ip), (one.mac, one.ip), PORT)?;
    let (from, to) = (mac_of(&routed)?, mac_of_device(host.netns(), "side0")?);
    for destination in [host.ip(), gateway] {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2(from.0, to.0)
            .ipv4(peer.ip().octets(), destination.octets(), 64)
            .udp(50000, 4789)
            .write(&mut frame, &vxlan_payload(vni, &inner))?;
        counted(host, "other_device", "rx", || send_raw(&routed, &frame))?;
    }
    // The same by the underlay, on the same slow path.
    send_vxlan(peer.netns(), host, vni, &inner, true)?;
    until(CONVERGE, || {
        ensure!(delivered.received() > 0, "nothing was delivered");
        Ok(())
    })?;
    ensure!(delivered.stop()? == 1, "a forged frame was delivered");
    Ok(())
}
