//! The store goes in the middle of a command.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::http;
use tests::netns::Netns;
use tests::wait::until;

use crate::support::relay::Relay;
use crate::support::{CONVERGE, Container, StoreKind, World, mac_of, reachable};

/// The writes of `endpoint add`, as they are in its transactions.
const STEPS: [&str; 2] = [
    r#""Verb":"cas","Key":"overlay/v1/addresses/"#,
    r#""Verb":"cas","Key":"overlay/v1/endpoints/"#,
];

/// A world whose first agent's store can be cut off.
pub(super) fn world() -> Result<(World, Relay)> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let relay = Relay::start(world.host(1).netns(), world.store.address())?;
    world.host_mut(1).start_agent(&relay.url())?;
    let url = world.store.url();
    world.host_mut(2).start_agent(&url)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    Ok((world, relay))
}

/// How many keys there are below a folder of the store, the folder's own not counted.
pub(super) fn keys(world: &World, folder: &str) -> Result<usize> {
    let (from, store): (&Netns, SocketAddr) = (&world.store_station.netns, world.store.address());
    let path = format!("/v1/kv/overlay/v1/{folder}/?keys");
    let response = http::request(from, store, "GET", &path, "")?;
    if response.status == 404 {
        return Ok(0);
    }
    let keys: Vec<String> = serde_json::from_str(&response.body).context("read the keys")?;
    Ok(keys.iter().filter(|key| !key.ends_with('/')).count())
}

/// The network's gateway holds an address from the start.
pub(super) const GATEWAY: usize = 1;

#[test]
fn an_answer_is_lost_and_the_store_away_for_a_moment() -> Result<()> {
    let (world, relay) = world()?;
    let there = world.container(2, "blue", "there")?;
    for (number, step) in STEPS.iter().enumerate() {
        let label = format!("c{number}");
        let netns = world.host(1).container(&label)?;
        relay.cut_at(step);
        let ip = thread::scope(|scope| {
            let add = scope.spawn(|| {
                let more = ["--name", label.as_str()];
                world.host(1).add_endpoint("blue", &netns, &more)
            });
            let cut = until(CONVERGE, || {
                ensure!(relay.is_cut(), "the step did not come: {step}");
                Ok(())
            });
            thread::sleep(Duration::from_secs(2));
            relay.mend();
            cut?;
            add.join().map_err(|_| anyhow::anyhow!("panicked"))?
        })
        .with_context(|| format!("cut at {step}"))?;
        ensure!(
            keys(&world, "endpoints")? == number + 2
                && keys(&world, "addresses")? == GATEWAY + number + 2,
            "not one endpoint and one address more after {step}"
        );
        let mac = mac_of(&netns)?;
        reachable(&Container { netns, ip, mac }, &there, 3)?;
    }
    Ok(())
}

#[test]
fn what_was_not_made_is_cleared_when_the_store_is_back() -> Result<()> {
    let (world, relay) = world()?;
    for step in STEPS {
        let netns = world.host(1).container("c")?;
        let path = netns.path().display().to_string();
        relay.cut_at(step);
        let add = ["endpoint", "add", "--network", "blue", "--netns", &path];
        let refused = world.host(1).cli(&add)?;
        ensure!(refused.code == 1 && relay.is_cut(), "{refused:?}");
        ensure!(refused.stderr.lines().count() == 1, "{refused:?}");

        // Nothing is left on the host, and what may be in the store is told of.
        let links = world.host(1).netns().ip(&["-o", "link"])?;
        ensure!(!links.contains(" endpoint "), "a device is left: {links}");
        let links = netns.ip(&["-o", "link"])?;
        ensure!(!links.contains("eth0"), "an interface is left: {links}");
        let status = world.host(1).cli_json(&["status"])?;
        let problems = status["problems"].to_string();
        ensure!(problems.contains("stays taken until"), "{status}");
        ensure!(
            keys(&world, "addresses")? == GATEWAY + 1,
            "the cut was before the write"
        );

        relay.mend();
        until(Duration::from_secs(60), || {
            for (folder, stay) in [("endpoints", 0), ("addresses", GATEWAY)] {
                let left = keys(&world, folder)?;
                ensure!(left == stay, "{left} keys left in {folder} after {step}");
            }
            let status = world.host(1).cli_json(&["status"])?;
            ensure!(status["problems"] == serde_json::json!([]), "{status}");
            Ok(())
        })?;
    }
    Ok(())
}
