//! What an idle agent costs.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::support::relay::Relay;
use crate::support::{StoreKind, World, reachable, vni_of};

/// Resident memory of an idle agent stays below this.
const RESIDENT_KIB: u64 = 30 * 1024;
const IDLE: Duration = Duration::from_secs(25);

#[test]
fn idle_agent_is_small_and_quiet() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let relay = Relay::start(world.host(1).netns(), world.store.address())?;
    world.host_mut(1).start_agent(&relay.url())?;
    let url = world.store.url();
    world.host_mut(2).start_agent(&url)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;
    let vni = vni_of(world.host(1), "blue")?;
    let status = world.host(1).cli_json(&["status"])?;
    let node = status["node_id"].as_str().context("no node id")?;
    // What the changes above set off is over.
    thread::sleep(Duration::from_secs(2));

    relay.take_requests();
    thread::sleep(IDLE);
    let requests = relay.take_requests();
    let is_blocking = |request: &str| request.starts_with("GET ") && request.contains("index=");
    for request in &requests {
        let renewal = request.starts_with("PUT ") && request.contains("/v1/session/renew/");
        ensure!(
            is_blocking(request) || renewal,
            "an idle agent asks: {request}"
        );
    }
    // A blocking query is asked again after a minute, a session renewed every 15 seconds.
    ensure!(
        requests.len() <= 6,
        "{} requests: {requests:#?}",
        requests.len()
    );
    let mut waiting = relay.waiting();
    waiting.sort();
    let [own, hints, networks, nodes] = &waiting[..] else {
        bail!("waiting: {waiting:#?}");
    };
    for (request, folder) in [
        (own, format!("endpoints/{node}/")),
        (hints, format!("index/{vni:06x}/b/")),
        (networks, "networks/".to_owned()),
        (nodes, "nodes/".to_owned()),
    ] {
        ensure!(
            is_blocking(request) && request.contains(&format!("/overlay/v1/{folder}?recurse")),
            "waiting: {waiting:#?}"
        );
    }

    let pid = world.host_mut(1).agent()?.pid();
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("read the agent's status")?;
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS")?
        .parse()
        .context("VmRSS")?;
    println!(
        "idle agent: {resident} KiB resident, {} requests in {IDLE:?}",
        requests.len()
    );
    ensure!(resident < RESIDENT_KIB, "{resident} KiB resident");
    Ok(())
}
