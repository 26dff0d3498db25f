//! Who has an address: asked by a container's kernel, answered by the data path.

use anyhow::{Result, ensure};
use tests::traffic::ping::ping;
use tests::wait::until;

use super::{Subnets, reaches};
use crate::support::{CONVERGE, count};

#[test]
fn of_ipv6_are_found() -> Result<()> {
    let network = Subnets::new()?;
    let here = network.end(1, 8, 11)?;
    let beside = network.end(1, 8, 12)?;
    let there = network.end(2, 8, 13)?;
    for to in [&beside, &there] {
        reaches(&here.netns, to.ip6)?;
        let neighbor = here
            .netns
            .ip(&["-6", "neigh", "show", &to.ip6.to_string()])?;
        ensure!(!neighbor.contains("router"), "{neighbor}");
    }
    reaches(&here.netns, "fd00:8::1".parse()?)?;
    let gateway = here.netns.ip(&["-6", "neigh", "show", "fd00:8::1"])?;
    ensure!(gateway.contains("router"), "{gateway}");
    Ok(())
}

/// One that may send from every address asks for others' all the same.
#[test]
fn of_a_router_are_found() -> Result<()> {
    let network = Subnets::new()?;
    let host = network.world.host(1);
    let router = host.container("router")?;
    let addresses = ["--ip", "10.8.0.77", "--ip", "fd00:8::77"];
    let allowed = ["--allow-ip", "0.0.0.0/0", "--allow-ip", "::/0"];
    host.add_endpoint("blue", &router, &[addresses, allowed].concat())?;
    let there = network.end(2, 8, 13)?;
    for ip in there.ips() {
        reaches(&router, ip)?;
    }
    Ok(())
}

/// An address that somebody else has is found to be a duplicate, one that is allowed and free is not.
#[test]
fn a_duplicate_is_found() -> Result<()> {
    let network = Subnets::new()?;
    let here = network.end(1, 8, 11)?;
    let there = network.end(2, 8, 13)?;
    reaches(&here.netns, there.ip6)?;
    let state = |ip: &str| {
        here.netns
            .ip(&["-6", "addr", "show", "dev", "eth0", "to", ip])
    };
    let taken = there.ip6.to_string();
    here.netns
        .ip(&["addr", "add", &format!("{taken}/64"), "dev", "eth0"])?;
    until(CONVERGE, || {
        let state = state(&taken)?;
        ensure!(state.contains("dadfailed"), "{state}");
        Ok(())
    })?;
    here.netns
        .ip(&["addr", "add", "fd00:8::77/64", "dev", "eth0"])?;
    until(CONVERGE, || {
        let state = state("fd00:8::77")?;
        ensure!(
            !state.contains("tentative") && !state.contains("dadfailed"),
            "{state}"
        );
        Ok(())
    })?;
    Ok(())
}

/// A question that nobody can answer leaves the host of a network that does not flood in no way.
#[test]
fn of_nobody_are_not_asked_for_elsewhere() -> Result<()> {
    let network = Subnets::new()?;
    let here = network.end(1, 8, 11)?;
    let there = network.end(2, 8, 13)?;
    for ip in there.ips() {
        reaches(&here.netns, ip)?;
    }
    let host = network.world.host(1);
    let sent = || count(host, "overlay_vni_packets_total", &[("direction", "tx")]);
    let unknown = || {
        let labels = [("reason", "unknown_neighbor")];
        count(host, "overlay_vni_drops_total", &labels)
    };
    let (sent_before, unknown_before) = (sent()?, unknown()?);
    for ip in ["10.8.0.99", "fd00:8::99"] {
        ensure!(ping(&here.netns, ip.parse()?, 2)?.received == 0, "{ip}");
    }
    ensure!(unknown()? >= unknown_before + 2, "{}", unknown()?);
    ensure!(sent()? == sent_before, "something was sent");
    Ok(())
}
