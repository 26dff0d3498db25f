//! The underlay changes under running traffic: addresses, MACs, MTU, the device itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::command::capture;
use tests::lab::{Host, UNDERLAY};
use tests::netns::Netns;
use tests::traffic::ping::ping_with;
use tests::traffic::tcp::transfer;
use tests::wait::until;

use crate::support::{
    CONVERGE, Container, StoreKind, World, ask_neighbours_often, mac_of, reachable,
};

/// From the event to the rewritten header, with the time that the command takes to look. The
/// machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(1);

struct Pair {
    world: World,
    one: Container,
    two: Container,
}

impl Pair {
    /// Two hosts with a container each, the second host's agent with more arguments.
    fn new(more: &[&str]) -> Result<Self> {
        Self::on(World::without_agents(StoreKind::Embedded)?, more)
    }

    /// In a world without agents.
    fn on(mut world: World, more: &[&str]) -> Result<Self> {
        let url = world.store.url();
        world.host_mut(1).start_agent(&url)?;
        world.host_mut(2).start_agent_with(&url, more)?;
        world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
        let one = world.container(1, "blue", "one")?;
        let two = world.container(2, "blue", "two")?;
        reachable(&one, &two, 3)?;
        reachable(&two, &one, 3)?;
        Ok(Self { world, one, two })
    }

    fn reachable(&self) -> Result<()> {
        reachable(&self.one, &self.two, 5)?;
        reachable(&self.two, &self.one, 5)
    }
}

/// The only tunnel of a host, as `dump` shows it.
fn tunnel(host: &Host) -> Result<Value> {
    let dump = host.cli_json(&["dump"])?;
    let tunnels = dump["tunnels"].as_array().context("no tunnels")?;
    ensure!(tunnels.len() == 1, "tunnels: {tunnels:?}");
    Ok(tunnels[0].clone())
}

/// Waits until a field of a host's tunnel is as wanted; fails when that takes too long.
fn soon(host: &Host, since: Instant, field: &str, wanted: &Value) -> Result<()> {
    until(CONVERGE, || {
        let tunnel = tunnel(host)?;
        ensure!(
            tunnel[field] == *wanted,
            "{field} is not {wanted}: {tunnel}"
        );
        Ok(())
    })?;
    let took = since.elapsed();
    println!("{}: {field} after {took:?}", host.label());
    ensure!(took <= SOON, "{}: {field} after {took:?}", host.label());
    Ok(())
}

/// Waits until a container's interface has the MTU.
fn has_mtu(container: &Container, mtu: u16) -> Result<()> {
    until(CONVERGE, || {
        let link = container.netns.ip(&["link", "show", "eth0"])?;
        ensure!(link.contains(&format!("mtu {mtu} ")), "not {mtu}: {link}");
        Ok(())
    })
}

fn problems(host: &Host) -> Result<Vec<String>> {
    let status = host.cli_json(&["status"])?;
    let problems = status["problems"].as_array().context("no problems")?;
    Ok(problems.iter().map(ToString::to_string).collect())
}

#[test]
fn another_address() -> Result<()> {
    let pair = Pair::new(&[])?;
    let [here, there] = [1, 2].map(|n| pair.world.host(n));
    let new = "192.0.2.22";
    let add = ["address", "add", &format!("{new}/24"), "dev", UNDERLAY];
    there.netns().ip(&add)?;
    // Secondary addresses stay when the first goes.
    let promote = format!("net.ipv4.conf.{UNDERLAY}.promote_secondaries");
    there.netns().sysctl(&promote, "1")?;
    let old = format!("{}/24", there.ip());
    let since = Instant::now();
    there
        .netns()
        .ip(&["address", "del", &old, "dev", UNDERLAY])?;
    soon(there, since, "source", &new.into())?;
    soon(here, since, "destination", &new.into())?;
    pair.reachable()?;
    let status = there.cli_json(&["status"])?;
    ensure!(
        status["underlay"]["addresses"] == serde_json::json!([new]),
        "{status}"
    );
    Ok(())
}

#[test]
fn an_advertised_address_goes_and_comes_back() -> Result<()> {
    let pair = Pair::new(&["--advertise", "192.0.2.2"])?;
    let there = pair.world.host(2);
    let address = |action: &str, ip: &str| {
        let ip = format!("{ip}/24");
        there.netns().ip(&["address", action, &ip, "dev", UNDERLAY])
    };
    address("add", "192.0.2.22")?;
    address("del", "192.0.2.2")?;
    until(CONVERGE, || {
        let problems = problems(there)?;
        let told = problems
            .iter()
            .any(|line| line.contains("no longer has the advertised address 192.0.2.2"));
        ensure!(told, "not told: {problems:?}");
        Ok(())
    })?;
    address("add", "192.0.2.2")?;
    pair.reachable()?;
    until(CONVERGE, || {
        let problems = problems(there)?;
        ensure!(problems.is_empty(), "{problems:?}");
        Ok(())
    })
}

#[test]
fn another_mac() -> Result<()> {
    let pair = Pair::new(&[])?;
    let [here, there] = [1, 2].map(|n| pair.world.host(n));
    // Announces the change, as a failed-over host does.
    there
        .netns()
        .sysctl(&format!("net.ipv4.conf.{UNDERLAY}.arp_notify"), "1")?;
    let new = "02:00:00:00:00:99";
    let since = Instant::now();
    there
        .netns()
        .ip(&["link", "set", UNDERLAY, "address", new])?;
    soon(there, since, "source_mac", &new.into())?;
    soon(here, since, "next_hop", &new.into())?;
    pair.reachable()
}

/// Nobody announces it: the kernel finds out in the neighbour table's own time, by probing an
/// entry that no traffic uses.
#[test]
fn a_next_hop_replaced_in_silence() -> Result<()> {
    let world = World::without_agents(StoreKind::Embedded)?;
    ask_neighbours_often(world.host(1).netns())?;
    let mut pair = Pair::on(world, &[])?;
    // It would ask everybody for the store's MAC, in the name of the new one.
    pair.world.host_mut(2).agent()?.kill9()?;
    let [here, there] = [1, 2].map(|n| pair.world.host(n));
    let before = mac_of(there.netns())?.to_string();
    ensure!(tunnel(here)?["next_hop"] == before.as_str());
    let new = "02:00:00:00:00:77";
    there
        .netns()
        .ip(&["link", "set", UNDERLAY, "address", new])?;
    until(CONVERGE, || {
        let tunnel = tunnel(here)?;
        ensure!(tunnel["next_hop"] == new, "{tunnel}");
        Ok(())
    })?;
    pair.reachable()
}

/// What the store had to say meanwhile is sent again by TCP when that sees fit: after a long time without a
/// link, seconds later.
#[test]
fn a_link_that_is_back_is_connected_by_anew() -> Result<()> {
    let pair = Pair::new(&[])?;
    let switch = pair.world.lab.switch().context("no switch")?;
    let host = pair.world.host(1).netns();
    let before = connections(host)?;
    ensure!(!before.is_empty(), "no connections");
    for (state, carrier) in [("down", "NO-CARRIER"), ("up", "LOWER_UP")] {
        switch.ip(&["link", "set", "p1", state])?;
        until(CONVERGE, || {
            let link = host.ip(&["link", "show", UNDERLAY])?;
            ensure!(link.contains(carrier), "{link}");
            Ok(())
        })?;
        // The agent looks a moment after the kernel's announcement.
        std::thread::sleep(Duration::from_secs(1));
    }
    until(CONVERGE, || {
        let now = connections(host)?;
        ensure!(!now.is_empty(), "no connections");
        let old: Vec<_> = now.intersection(&before).collect();
        ensure!(old.is_empty(), "still connected from {old:?}");
        Ok(())
    })?;
    pair.reachable()
}

/// The ports that a host has connections to the store from.
fn connections(host: &Netns) -> Result<BTreeSet<String>> {
    let mut command = host.command("ss")?;
    command.args(["-Htn", "state", "established", "dport", "=", ":8500"]);
    let found = capture(&mut command)?;
    ensure!(found.status.success(), "ss: {found:?}");
    let lines = String::from_utf8_lossy(&found.stdout);
    let own = lines
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    Ok(own.map(str::to_owned).collect())
}

#[test]
fn jumbo_frames() -> Result<()> {
    let pair = Pair::new(&[])?;
    let switch = pair.world.lab.switch().context("no switch")?;
    for port in ["p1", "p2"] {
        switch.ip(&["link", "set", port, "mtu", "9000"])?;
    }
    for n in [1, 2] {
        let host = pair.world.host(n);
        let since = Instant::now();
        host.netns().ip(&["link", "set", UNDERLAY, "mtu", "9000"])?;
        soon(host, since, "mtu", &9000.into())?;
    }
    for container in [&pair.one, &pair.two] {
        has_mtu(container, 8950)?;
    }
    // 8950 bytes of IP to the byte.
    let whole = ["-M", "do", "-s", "8922"];
    let summary = ping_with(&pair.one.netns, pair.two.ip.into(), 5, &whole)?;
    ensure!(summary.lost() == 0, "{summary:?}");
    transfer(
        &pair.one.netns,
        &pair.two.netns,
        pair.two.address(7400),
        64 << 20,
    )?
    .verify()
}

/// A route with less than its device can: every packet fits the way to every peer.
#[test]
fn another_mtu_of_a_route() -> Result<()> {
    let pair = Pair::new(&[])?;
    let [here, there] = [1, 2].map(|n| pair.world.host(n));
    let to = format!("{}/32", there.ip());
    let since = Instant::now();
    here.netns()
        .ip(&["route", "add", &to, "dev", UNDERLAY, "mtu", "1400"])?;
    soon(here, since, "mtu", &1400.into())?;
    let status = || here.cli_json(&["status"]);
    ensure!(
        status()?["networks"]["blue"]["mtu"] == 1350,
        "{}",
        status()?
    );
    pair.reachable()?;

    let since = Instant::now();
    here.netns().ip(&["route", "del", &to])?;
    soon(here, since, "mtu", &1500.into())?;
    ensure!(
        status()?["networks"]["blue"]["mtu"] == 1450,
        "{}",
        status()?
    );
    pair.reachable()
}

#[test]
fn another_mtu() -> Result<()> {
    let pair = Pair::new(&[])?;
    let there = pair.world.host(2);
    let since = Instant::now();
    there
        .netns()
        .ip(&["link", "set", UNDERLAY, "mtu", "1400"])?;
    soon(there, since, "mtu", &1400.into())?;
    let status = there.cli_json(&["status"])?;
    ensure!(status["underlay"]["mtu"] == 1400, "{status}");
    ensure!(status["networks"]["blue"]["mtu"] == 1350, "{status}");
    has_mtu(&pair.two, 1350)?;
    pair.reachable()
}
