//! Between the subnets of a network, on one host and across two.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::traffic::tcp::transfer;
use tests::traffic::udp::{UdpCounter, send};
use tests::wait::until;

use super::{Subnets, address, reaches, says};
use crate::support::{CONVERGE, StoreKind, World, count, reachable};

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

/// Networks are no way to each other on hosts that have both, and an internal one has no default route.
#[test]
fn another_network_is_not_reached() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.8.0.0/24"])?;
    world.create_network("red", &["--subnet", "10.9.0.0/24", "--internal"])?;
    let end = |n: usize, network| world.container(n, network, &format!("{network}{n}"));
    let (blue, beside, red) = (end(1, "blue")?, end(1, "red")?, end(2, "red")?);
    let _also_blue = end(2, "blue")?;
    reachable(&beside, &red, 1)?;
    reaches(&blue.netns, "10.8.0.1".parse()?)?;
    // Whether it answers is another question: it has no way back.
    let heard = UdpCounter::start(&red.netns, red.address(7300), None)?;
    send(&blue.netns, red.address(7300), 100, 5, Duration::ZERO)?;
    let said = says(&blue.netns, red.ip.into(), &[])?;
    send(&beside.netns, red.address(7300), 100, 1, Duration::ZERO)?;
    until(CONVERGE, || {
        ensure!(heard.received() > 0, "nothing arrives");
        Ok(())
    })?;
    let heard = heard.stop()?;
    ensure!(heard == 1, "{} datagrams crossed", heard - 1);
    ensure!(
        said.contains("From 10.8.0.1 icmp_seq=1 Destination Net Unreachable"),
        "{said}"
    );
    let said = says(&red.netns, blue.ip.into(), &[])?;
    ensure!(said.contains("Network is unreachable"), "{said}");
    Ok(())
}
