//! Endpoints come and go while the store is away.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::lab::UNDERLAY;
use tests::traffic::ping::ping;
use tests::wait::until;

use super::outage::{GATEWAY, keys};
use crate::support::relay::Relay;
use crate::support::{CONVERGE, Container, StoreKind, World, mac_of, reachable};

const LONG: Duration = Duration::from_secs(60);

fn container(world: &World, n: usize, label: &str, ip: &str) -> Result<Container> {
    let netns = world.host(n).container(label)?;
    let ip = world
        .host(n)
        .add_endpoint("blue", &netns, &["--name", label, "--ip", ip])?;
    let mac = mac_of(&netns)?;
    Ok(Container { netns, ip, mac })
}

fn endpoint(world: &World, n: usize, name: &str) -> Result<Value> {
    let all = world.host(n).cli_json(&["endpoint", "ls"])?;
    let mut all = all.as_array().context("no list")?.iter();
    let found = all.find(|endpoint| endpoint["name"] == name);
    Ok(found.cloned().unwrap_or_default())
}

/// Waits until status tells of this problem; of none for `""`.
fn problem(world: &World, n: usize, wanted: &str) -> Result<()> {
    until(LONG, || {
        let status = world.host(n).cli_json(&["status"])?;
        let problems = &status["problems"];
        let there = match wanted {
            "" => *problems == json!([]),
            wanted => problems.to_string().contains(wanted),
        };
        ensure!(there, "wanted `{wanted}` on host {n}: {status}");
        Ok(())
    })
}

/// Each at a moment of its own kills the agent: nothing is lost, and nothing is there twice.
#[test]
fn are_told_to_the_store_when_it_is_back() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    let _gone = container(&world, 1, "gone", "10.42.9.9")?;
    reachable(&one, &two, 2)?;
    std::thread::sleep(Duration::from_secs(2));

    world.kill_store()?;
    let three = world.container(1, "blue", "three")?;
    ensure!(![one.ip, two.ip].contains(&three.ip));
    reachable(&one, &three, 2)?;
    problem(&world, 1, "was added while the store was away")?;
    world.host(1).cli_ok(&["endpoint", "rm", "gone"])?;
    problem(&world, 1, "was removed while the store was away")?;
    ensure!(endpoint(&world, 1, "gone")?.is_null());
    // Its address is free here already, and so is its name.
    let again = container(&world, 1, "gone", "10.42.9.9")?;
    // One that nobody will ever hear of.
    let _brief = world.container(1, "blue", "brief")?;
    world.host(1).cli_ok(&["endpoint", "rm", "brief"])?;
    let taken = world.host(1).container("taken")?;
    let path = taken.path().display().to_string();
    let add = ["endpoint", "add", "--network", "blue", "--netns", &path];
    let ip = two.ip.to_string();
    let refused = world.host(1).cli(&[&add[..], &["--ip", &ip]].concat())?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("is taken"),
        "{refused:?}"
    );

    world.host_mut(1).agent()?.kill9()?;
    world.host_mut(1).start_agent(&url)?;
    ensure!(endpoint(&world, 1, "three")?["state"] == "up");
    ensure!(endpoint(&world, 1, "brief")?.is_null());
    reachable(&one, &three, 2)?;
    reachable(&one, &again, 2)?;

    world.host_mut(1).agent()?.kill9()?;
    world.restart_store()?;
    world.host_mut(1).start_agent(&url)?;
    problem(&world, 1, "")?;
    reachable(&two, &three, 2)?;
    reachable(&two, &again, 2)?;
    ensure!(endpoint(&world, 2, "gone")?["ip4"] == "10.42.9.9");
    let left = (keys(&world, "endpoints")?, keys(&world, "addresses")?);
    ensure!(left == (4, GATEWAY + 4), "{left:?}");
    // As if they had been added with the store.
    world.host(1).cli_ok(&["endpoint", "rm", "three"])?;
    world.host(1).cli_ok(&["endpoint", "rm", "gone"])?;
    let left = (keys(&world, "endpoints")?, keys(&world, "addresses")?);
    // Their addresses cool down.
    ensure!(left == (2, GATEWAY + 4), "{left:?}");
    Ok(())
}

/// Nobody reaches the store. Whoever was first has the address, also if the other one is the first to tell.
#[test]
fn two_hosts_claim_one_address() -> Result<()> {
    let mut world = World::new(StoreKind::Consul)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 2)?;
    let link = |world: &World, state: &str| {
        let store = &world.store_station.netns;
        store.ip(&["link", "set", UNDERLAY, state]).map(drop)
    };
    link(&world, "down")?;
    std::thread::sleep(Duration::from_secs(2));
    let first = container(&world, 1, "first", "10.42.7.7")?;
    std::thread::sleep(Duration::from_secs(1));
    let second = container(&world, 2, "second", "10.42.7.7")?;
    reachable(&one, &first, 2)?;
    reachable(&two, &second, 2)?;

    world.host_mut(1).agent()?.kill9()?;
    link(&world, "up")?;
    problem(&world, 2, "")?;
    world.host_mut(1).spawn_agent(&url, &[])?;
    problem(&world, 2, "is out of the data path: its address 10.42.7.7")?;
    problem(&world, 1, "")?;
    let log = world.host_mut(2).agent()?.log()?;
    ensure!(log.contains("ERROR") && log.contains("on host1"), "{log}");
    let lost = |world: &World| {
        let shown = endpoint(world, 2, "second")?;
        ensure!(shown["state"] == "lost", "{shown}");
        let ping = ping(&second.netns, two.ip.into(), 1)?;
        ensure!(ping.sent == ping.lost(), "it still sends: {ping:?}");
        Ok(())
    };
    lost(&world)?;
    reachable(&two, &first, 3)?;
    let held = keys(&world, "endpoints")?;
    ensure!(held == 3, "{held} endpoints are in the store");

    // It stays so until somebody removes it.
    world.host_mut(2).agent()?.kill9()?;
    world.host_mut(2).start_agent(&url)?;
    problem(&world, 2, "is out of the data path")?;
    lost(&world)?;
    world.host(2).cli_ok(&["endpoint", "rm", "second"])?;
    problem(&world, 2, "")?;
    ensure!(keys(&world, "addresses")? == GATEWAY + 3);
    reachable(&two, &first, 2)
}

/// Whoever has asked the store goes before whoever has not.
#[test]
fn an_address_was_given_to_another_meanwhile() -> Result<()> {
    let (world, relay): (World, Relay) = super::outage::world()?;
    let two = world.container(2, "blue", "two")?;
    let one = world.container(1, "blue", "one")?;
    reachable(&one, &two, 1)?;
    relay.cut_at("/v1/kv/overlay/v1/endpoints/?recurse");
    world.host(1).cli_ok(&["endpoint", "ls"])?;
    ensure!(relay.is_cut(), "the agent did not ask");
    let early = container(&world, 1, "early", "10.42.7.7")?;
    reachable(&one, &early, 1)?;
    let late = container(&world, 2, "late", "10.42.7.7")?;
    relay.mend();
    problem(&world, 1, "is out of the data path: its address 10.42.7.7")?;
    until(CONVERGE, || {
        let ping = ping(&early.netns, one.ip.into(), 1)?;
        ensure!(ping.lost() == ping.sent, "it still sends");
        Ok(())
    })?;
    reachable(&one, &late, 3)?;
    ensure!(keys(&world, "endpoints")? == 3);
    world.host(1).cli_ok(&["endpoint", "rm", "early"])?;
    problem(&world, 1, "")?;
    ensure!(keys(&world, "addresses")? == GATEWAY + 3);
    reachable(&one, &late, 1)
}
