//! Hosts of different families in one overlay.

use anyhow::{Result, ensure};
use tests::capture::{Capture, fields};
use tests::lab::{Family, UNDERLAY};
use tests::traffic::ping::ping;
use tests::traffic::tcp::transfer;
use tests::wait::until;

use super::{INSIDE, Pair, SUBNETS, fallbacks, no_drops};
use crate::support::families::{BOTH, V4, V6};
use crate::support::{CONVERGE, World, network};

const BYTES: u64 = 16 << 20;

/// Host 1 has both families, host 2 IPv4 and host 3 IPv6: host 1 reaches each by what they share,
/// and the other two are told why they do not reach each other.
#[test]
fn a_host_of_both_between_hosts_of_one() -> Result<()> {
    let world = World::over(&[BOTH, V4, V6])?;
    world.create_network("blue", SUBNETS)?;
    until(CONVERGE, || network(world.host(3), "blue").map(drop))?;
    for (other, family) in [(2, Family::V4), (3, Family::V6)] {
        shares(&world, other, family)?;
    }
    let problems = status(&world, 1)?;
    ensure!(!problems.contains("family"), "{problems}");
    for (here, there, families) in [
        (2, "host3", ["(IPv6)", "(IPv4)"]),
        (3, "host2", ["(IPv4)", "(IPv6)"]),
    ] {
        let [theirs, ours] = families;
        let wanted = format!(
            "node {there} {theirs} and this host host{here} {ours} are a mixed-family overlay \
             without a common underlay family"
        );
        let said = status(&world, here)?;
        let lines: Vec<_> = said.lines().filter(|line| line.contains(&wanted)).collect();
        ensure!(lines.len() == 1, "host {here} says: {said}");
        ensure!(lines[0].contains("--advertise"), "{}", lines[0]);
    }
    // As they were told.
    let [two, three] = [2, 3].map(|n| world.container(n, "blue", &format!("alone{n}")));
    let summary = ping(&two?.netns, three?.ip.into(), 3)?;
    ensure!(summary.received == 0, "{summary:?}");
    // A group that two of them can reach.
    let host = world.host(1);
    host.cli_ok(&["network", "create", "six", "--flood", "multicast=ff05::9:9"])?;
    until(CONVERGE, || network(world.host(2), "six").map(drop))?;
    world.container(2, "six", "without")?;
    let wanted =
        "group ff05::9:9 cannot be reached from this host: it has no VTEP address of that family";
    let said = status(&world, 2)?;
    ensure!(said.contains(wanted), "{said}");
    // A larger header is in use on one tunnel of host 1 only: its networks leave room for it.
    let mtu = |n| Ok::<_, anyhow::Error>(network(world.host(n), "blue")?["mtu"].clone());
    ensure!([mtu(1)?, mtu(2)?, mtu(3)?] == [1430, 1450, 1430]);
    Ok(())
}

/// IPv4 is taken where there is a choice: its headers are shorter.
#[test]
fn hosts_of_both_families() -> Result<()> {
    let world = World::over(&[BOTH, BOTH])?;
    world.create_network("blue", SUBNETS)?;
    shares(&world, 2, Family::V4)?;
    ensure!(network(world.host(1), "blue")?["mtu"] == 1450);
    Ok(())
}

/// Traffic of both families inside between host 1 and another is tunnelled over `family` alone.
fn shares(world: &World, other: usize, family: Family) -> Result<()> {
    let filter = "udp dst port 4789";
    let folder = tests::workdir::WorkDir::new("mixed")?;
    let netns = world.host(other).netns();
    let capture = Capture::headers(netns, UNDERLAY, filter, folder.path())?;
    let pair = Pair::new(world, [1, other])?;
    for (from, to) in pair.ways() {
        for inside in INSIDE {
            let address = to.address_of(inside, 5001)?;
            transfer(&from.netns, &to.netns, address, BYTES)?.verify()?;
        }
    }
    let file = capture.stop()?;
    // The inner packets are of both families: the first ethertype is the outer one.
    let outer = fields(&file, "", &["eth.type"])?;
    let wanted = match family {
        Family::V4 => "0x0800",
        Family::V6 => "0x86dd",
    };
    ensure!(outer.len() > 100, "only {} packets", outer.len());
    let others = outer.iter().filter(|row| row[0] != wanted).count();
    ensure!(others == 0, "{others} packets not over {family:?}");
    for n in [1, other] {
        no_drops(world.host(n))?;
        let slow = fallbacks(world.host(n))?;
        ensure!(slow.is_empty(), "host {n}: {slow:?}");
    }
    let peer = world.host(other).station.address_of(family).to_string();
    let said = status(world, 1)?;
    ensure!(said.contains(&peer), "{said}");
    Ok(())
}

fn status(world: &World, n: usize) -> Result<String> {
    world.host(n).cli_ok(&["status"])
}
