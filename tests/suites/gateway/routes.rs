//! Between the subnets of a network, on one host and across two.

use anyhow::{Result, ensure};
use tests::traffic::ping::ping;
use tests::traffic::tcp::transfer;

use super::{Subnets, address, reaches, says};
use crate::support::{StoreKind, World, count};

#[test]
fn subnets_reach_each_other() -> Result<()> {
    let network = Subnets::new()?;
    let here = network.end(1, 8, 11)?;
    let beside = network.end(1, 9, 12)?;
    let there = network.end(2, 9, 13)?;
    for to in [&beside, &there] {
        for ip in to.ips() {
            reaches(&here.netns, ip)?;
            // One hop less than the 64 it was sent with, there and back.
            let said = says(&here.netns, ip, &[])?;
            ensure!(said.contains("ttl=63"), "{ip}: {said}");
            transfer(&here.netns, &to.netns, address(ip), 64 << 20)?.verify()?;
        }
    }
    // The same subnet takes no hop.
    let said = says(&beside.netns, there.ip4, &[])?;
    ensure!(said.contains("ttl=64"), "{said}");
    Ok(())
}

#[test]
fn the_gateway_answers_and_says_why_not() -> Result<()> {
    let network = Subnets::new()?;
    let here = network.end(1, 8, 11)?;
    let there = network.end(2, 9, 13)?;
    for gateway in ["10.8.0.1", "fd00:8::1"] {
        reaches(&here.netns, gateway.parse()?)?;
    }
    for ip in there.ips() {
        reaches(&here.netns, ip)?;
    }
    for (to, options, wanted) in [
        (
            there.ip4,
            &["-t", "1"][..],
            "From 10.8.0.1 icmp_seq=1 Time to live exceeded",
        ),
        (
            there.ip6,
            &["-t", "1"],
            "From fd00:8::1 icmp_seq=1 Time exceeded: Hop limit",
        ),
        (
            "10.9.0.99".parse()?,
            &[],
            "From 10.8.0.1 icmp_seq=1 Destination Net Unreachable",
        ),
        (
            "198.51.100.1".parse()?,
            &[],
            "From 10.8.0.1 icmp_seq=1 Destination Net Unreachable",
        ),
        (
            "fd00:9::99".parse()?,
            &[],
            "From fd00:8::1 icmp_seq=1 Destination unreachable: No route",
        ),
    ] {
        let said = says(&here.netns, to, options)?;
        ensure!(said.contains(wanted), "{to} {options:?}: {said}");
    }
    for (reason, packets) in [("time_exceeded", 2), ("unroutable", 3)] {
        let drops = count(
            network.world.host(1),
            "overlay_vni_drops_total",
            &[("reason", reason)],
        )?;
        ensure!(drops == packets, "{reason}: {drops}");
    }
    Ok(())
}

/// Networks with the same subnets are no way to each other, and an internal one has no default route.
#[test]
fn another_network_is_not_reached() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.8.0.0/24"])?;
    world.create_network("red", &["--subnet", "10.9.0.0/24", "--internal"])?;
    let blue = world.container(1, "blue", "blue")?;
    let red = world.container(2, "red", "red")?;
    reaches(&blue.netns, "10.8.0.1".parse()?)?;
    ensure!(ping(&blue.netns, red.ip.into(), 3)?.received == 0);
    let said = says(&red.netns, blue.ip.into(), &[])?;
    ensure!(said.contains("unreachable"), "{said}");
    Ok(())
}
