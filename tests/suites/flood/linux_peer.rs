//! A group that a Linux host's own vxlan device is a member of.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use overlay_common::net::MacAddr;
use tests::kernel_overlay::KernelOverlay;
use tests::lab::Family;
use tests::traffic::tcp::transfer;

use super::{Listener, ethernet, reaches_each_once};
use crate::support::families::{V4, V6};
use crate::support::{Container, World, reachable, udp_frame};

const VNI: u32 = 4242;
const LINUX_IP: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 50);
const LINUX_MAC: &str = "02:00:0a:2a:00:32";

#[test]
fn over_ipv4() -> Result<()> {
    with_linux(V4, "239.1.2.3")
}

#[test]
fn over_ipv6() -> Result<()> {
    with_linux(V6, "ff05::1:203")
}

/// Two agents and a Linux host, which has been told nothing but the group: what any of their
/// containers floods reaches all the others once.
fn with_linux(underlay: &[Family], group: &str) -> Result<()> {
    let mut world = World::over(&[underlay; 2])?;
    let station = world.lab.station("linux")?;
    if underlay == V6 {
        station.add_ipv6()?;
    }
    let (vni, mode) = (VNI.to_string(), format!("multicast={group}"));
    let subnet = ["--subnet", "10.42.0.0/24", "--vni", &vni];
    world.create_network("blue", &[&subnet[..], &["--flood", &mode]].concat())?;
    let vtep = station.address_of(underlay[0]);
    let mut linux = KernelOverlay::in_group(&station, VNI, vtep, group.parse::<IpAddr>()?)?;
    let theirs = Container {
        netns: linux.container(LINUX_IP, LINUX_MAC)?,
        ip: LINUX_IP,
        mac: LINUX_MAC.parse()?,
    };
    let (vtep, ip) = (vtep.to_string(), LINUX_IP.to_string());
    let host = world.host(1);
    host.cli_ok(&["node", "add", "linux", "--vtep", &vtep])?;
    let endpoint = ["--network", "blue", "--ip", &ip, "--mac", LINUX_MAC];
    host.cli_ok(&[&["endpoint", "add", "--node", "linux"][..], &endpoint].concat())?;
    let ours = [(1, "one"), (1, "near"), (2, "far")]
        .map(|(host, name)| world.container(host, "blue", name));
    let [one, near, far] = ours;
    // It has to ask who has our address, and we are asked nothing.
    let (one, far) = (one?, far?);
    for other in [&one, &far] {
        reachable(&theirs, other, 5)?;
        reachable(other, &theirs, 5)?;
        transfer(&theirs.netns, &other.netns, other.address(5001), 16 << 20)?.verify()?;
        transfer(&other.netns, &theirs.netns, theirs.address(5001), 16 << 20)?.verify()?;
    }
    let all = [one, near?, far, theirs]
        .into_iter()
        .map(Listener::new)
        .collect::<Result<Vec<_>>>()?;
    for from in &all {
        let others: Vec<_> = all
            .iter()
            .filter(|other| other.container.ip != from.container.ip)
            .collect();
        for frame in frames(&from.container)? {
            reaches_each_once(&from.container, &frame, &others)?;
        }
    }
    Ok(())
}

/// Of no protocol that a host knows, IPv4 to all and IPv4 to a group.
fn frames(from: &Container) -> Result<[Vec<u8>; 3]> {
    let source = (from.mac, from.ip);
    let group = MacAddr([0x01, 0x00, 0x5e, 0x01, 0x02, 0x03]);
    Ok([
        ethernet(from.mac, MacAddr::BROADCAST, b"to all"),
        udp_frame(source, (MacAddr::BROADCAST, [10, 42, 0, 255].into()), 7001)?,
        udp_frame(source, (group, [239, 1, 2, 3].into()), 7002)?,
    ])
}
