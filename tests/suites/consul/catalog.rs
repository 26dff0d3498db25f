//! What a person sees in Consul: the service, its check, the keys.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::http;
use tests::wait::until;

use super::guarded::blocks;
use crate::support::relay::Relay;
use crate::support::{CONVERGE, StoreKind, World, reachable};

/// The instances of the service.
fn instances(world: &World) -> Result<Vec<Value>> {
    let from = &world.store_station.netns;
    let path = "/v1/health/service/overlay-agent";
    let said = http::get(from, world.store.address(), path)?;
    serde_json::from_str(&said).with_context(|| said)
}

fn instance(world: &World, id: &str) -> Result<Value> {
    let id = format!("overlay-agent-{id}");
    let all = instances(world)?;
    let found = all
        .iter()
        .find(|instance| instance["Service"]["ID"] == id.as_str());
    found
        .cloned()
        .with_context(|| format!("{id} is not in {all:?}"))
}

fn check(instance: &Value) -> Result<&Value> {
    let checks = instance["Checks"].as_array().context("no checks")?;
    let own = checks
        .iter()
        .find(|check| check["ServiceName"] == "overlay-agent");
    own.with_context(|| format!("no check in {instance}"))
}

#[test]
fn agents_are_services_and_keys_can_be_read() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Consul)?;
    let relay = Relay::start(world.host(1).netns(), world.store.address())?;
    world.host_mut(1).start_agent(&relay.url())?;
    let url = world.store.url();
    world.host_mut(2).start_agent(&url)?;
    let mut ids = Vec::new();
    for host in [1, 2] {
        let status = world.host(host).cli_json(&["status"])?;
        let id = status["node_id"].as_str().context("no node id")?.to_owned();
        until(CONVERGE, || {
            let instance = instance(&world, &id)?;
            let service = &instance["Service"];
            ensure!(
                service["Address"] == world.host(host).ip().to_string()
                    && service["Port"] == 4789
                    && service["Meta"]["node"] == world.host(host).label(),
                "{service}"
            );
            let check = check(&instance)?;
            ensure!(check["Status"] == "passing", "{check}");
            Ok(())
        })?;
        ids.push(id);
    }
    let requests = relay.take_requests();
    let to_catalog = |requests: &[String]| {
        let to = requests
            .iter()
            .filter(|request| request.contains("/v1/agent/"));
        to.count()
    };
    ensure!(to_catalog(&requests) == 2, "{requests:#?}");

    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 1)?;
    for line in blocks("## What is kept")?.concat().lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let ["consul", args @ ..] = &words[..] else {
            anyhow::bail!("not a command of Consul: {line}");
        };
        let said = world.consul(args)?;
        ensure!(!said.trim().is_empty(), "{line} shows nothing");
        for shown in said.lines().filter(|_| args.contains(&"-recurse")) {
            // The separator is the first colon.
            let (key, value) = shown.split_once(':').context("no value")?;
            let read = serde_json::from_str::<Value>(value);
            ensure!(
                key.ends_with('/') && value.is_empty() || read.is_ok(),
                "no JSON: {shown}"
            );
        }
    }
    let endpoints = world.consul(&["kv", "get", "-recurse", "overlay/v1/endpoints/"])?;
    ensure!(endpoints.contains(&one.ip.to_string()), "{endpoints}");

    // Twice a minute and no oftener.
    let requests = relay.take_requests();
    ensure!(to_catalog(&requests) <= 1, "{requests:#?}");
    // One that Consul's agent has forgotten is there again with the next update: here, after a restart of ours.
    world.host_mut(2).agent()?.kill9()?;
    let gone = format!("/v1/agent/service/deregister/overlay-agent-{}", ids[1]);
    let store = world.store.address();
    http::request(&world.store_station.netns, store, "PUT", &gone, "")?;
    world.host_mut(2).start_agent(&url)?;
    until(CONVERGE, || instance(&world, &ids[1]).map(drop))?;

    world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
    let left = instances(&world)?;
    ensure!(
        left.len() == 1 && left[0]["Service"]["Meta"]["node_id"] == ids[1].as_str(),
        "{left:?}"
    );
    Ok(())
}
