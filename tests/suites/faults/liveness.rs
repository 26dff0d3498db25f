//! A host dies, comes back, is stopped, or only looks dead.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::http;
use tests::lab::UNDERLAY;
use tests::traffic::ping::Pinging;
use tests::wait::until;

use super::INTERVAL;
use crate::support::dns::ask;
use crate::support::{CONVERGE, Container, StoreKind, World, count, reachable};

/// The shortest grace period that may be asked for.
const GRACE: Duration = Duration::from_secs(10);
/// Longer than that, with a look more.
const OVER: Duration = Duration::from_secs(13);
/// The grace period ends well within this time, on a busy machine.
const WITHDRAWN: Duration = Duration::from_secs(30);

fn options() -> [String; 2] {
    ["--node-grace".to_owned(), GRACE.as_secs().to_string()]
}

/// Two hosts with a container each, that withdraw a dead host's endpoints soon.
fn world(kind: StoreKind) -> Result<(World, Container, Container)> {
    let mut world = World::without_agents(kind)?;
    let options = options();
    world.start_agents(&options.each_ref().map(String::as_str))?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;
    Ok((world, one, two))
}

/// A host as another one lists it.
fn node(world: &World, at: usize, of: usize) -> Result<Value> {
    let nodes = world.host(at).cli_json(&["node", "ls"])?;
    let label = world.host(of).label();
    let mut nodes = nodes.as_array().context("no list of nodes")?.iter();
    let found = nodes.find(|node| node["name"] == label);
    found
        .cloned()
        .with_context(|| format!("{label} is not listed"))
}

pub(super) fn is_state(world: &World, at: usize, of: usize, state: &str) -> Result<()> {
    let node = node(world, at, of)?;
    ensure!(node["state"] == state, "not {state}: {node}");
    ensure!(
        (state == "alive") == node["since"].is_null(),
        "since when? {node}"
    );
    Ok(())
}

/// Ends a host's session in the store, as its expiry would.
pub(super) fn end_session(world: &World, host: usize) -> Result<()> {
    let (from, store) = (&world.store_station.netns, world.store.address());
    let id = world.host(host).work().folder("state")?.join("node-id");
    let id = std::fs::read_to_string(id).context("read the node id")?;
    let path = format!("/v1/kv/overlay/v1/nodes/{}", id.trim());
    let key: Value = serde_json::from_str(&http::get(from, store, &path)?)?;
    let session = key[0]["Session"].as_str().context("no session")?;
    let path = format!("/v1/session/destroy/{session}");
    let answer = http::request(from, store, "PUT", &path, "")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// What the maps of host 1 have of a container of host 2 and of its host: in FDB, PEERS and TUNNELS.
fn traces(world: &World, of: &Container) -> Result<[usize; 3]> {
    let dump = world.host(1).cli_json(&["dump"])?;
    let mac = of.mac.to_string();
    let fdb = dump["fdb"].as_array().context("no FDB")?;
    let known = fdb.iter().filter(|entry| entry["mac"] == mac.as_str());
    let size = |map: &str| dump[map].as_array().map_or(0, Vec::len);
    Ok([known.count(), size("peers"), size("tunnels")])
}

#[test]
fn a_dead_host_is_withdrawn_and_comes_back() -> Result<()> {
    let (mut world, one, two) = world(StoreKind::Consul)?;
    let before = traces(&world, &two)?;
    ensure!(before == [1, 1, 1], "{before:?}");
    is_state(&world, 1, 2, "alive")?;
    let named = || Ok::<_, anyhow::Error>(ask(&one.netns, "two", RecordType::A)?.data);
    ensure!(named()? == [two.ip.to_string()], "{:?}", named()?);

    world.host_mut(2).agent()?.kill9()?;
    let host2 = world.host(2).netns();
    host2.ip(&["link", "set", UNDERLAY, "down"])?;
    end_session(&world, 2)?;
    until(CONVERGE, || is_state(&world, 1, 2, "missing"))?;
    ensure!(traces(&world, &two)? == before, "withdrawn at once");
    until(WITHDRAWN, || is_state(&world, 1, 2, "dead"))?;
    until(CONVERGE, || {
        let after = traces(&world, &two)?;
        ensure!(after == [0, 0, 0], "not withdrawn: {after:?}");
        Ok(())
    })?;
    ensure!(count(world.host(1), "overlay_peers", &[])? == 0);
    ensure!(named()?.is_empty(), "{:?}", named()?);
    let status = world.host(1).cli_json(&["status"])?;
    ensure!(status["absent"][0]["state"] == "dead", "{status}");
    let text = world.host(1).cli_ok(&["status"])?;
    ensure!(text.contains("dead since"), "{text}");
    // One line, and the store still has everything.
    let log = world.host_mut(1).agent()?.log()?;
    let lines = log.lines().filter(|line| line.contains("is dead"));
    ensure!(lines.count() == 1, "{log}");
    let shown = world.host(1).cli_json(&["node", "inspect", "host2"])?;
    ensure!(
        shown["endpoints"] == 1 && shown["state"] == "dead",
        "{shown}"
    );
    // To look, and the audit, do not bring it back.
    ensure!(world.host(1).cli_json(&["plan"])? == serde_json::json!([]));

    let host2 = world.host(2).netns();
    host2.ip(&["link", "set", UNDERLAY, "up"])?;
    let url = world.store.url();
    world.host_mut(2).start_agent(&url)?;
    until(CONVERGE, || is_state(&world, 1, 2, "alive"))?;
    reachable(&one, &two, 3)?;
    reachable(&two, &one, 3)?;
    ensure!(traces(&world, &two)? == before);

    // Not one that lives.
    let refused = world.host(1).cli(&["node", "forget", "host2"])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("has a running agent"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn who_only_looks_dead_is_not() -> Result<()> {
    let (mut world, one, two) = world(StoreKind::Embedded)?;
    let before = traces(&world, &two)?;

    // Stopped: its data path goes on, and nobody has to send for that.
    world.host_mut(2).agent()?.stop(Duration::from_secs(10))?;
    until(CONVERGE, || is_state(&world, 1, 2, "stopped"))?;
    thread::sleep(OVER);
    is_state(&world, 1, 2, "stopped")?;
    ensure!(traces(&world, &two)? == before);
    reachable(&one, &two, 3)?;

    // Killed and not started again: for as long as it sends.
    let url = world.store.url();
    world.host_mut(2).start_agent(&url)?;
    until(CONVERGE, || is_state(&world, 1, 2, "alive"))?;
    let pinging = Pinging::start(&one.netns, two.ip.into(), INTERVAL, world.work.path())?;
    world.host_mut(2).agent()?.kill9()?;
    end_session(&world, 2)?;
    until(CONVERGE, || is_state(&world, 1, 2, "missing"))?;
    thread::sleep(OVER);
    is_state(&world, 1, 2, "missing")?;
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    until(WITHDRAWN, || is_state(&world, 1, 2, "dead"))?;

    // It will not come back: its name, its endpoints and its addresses are free.
    world.host(1).cli_ok(&["node", "forget", "host2"])?;
    let left = world.host(1).cli_json(&["endpoint", "ls"])?;
    ensure!(left.as_array().is_some_and(|all| all.len() == 1), "{left}");
    let nodes = world.host(1).cli_json(&["node", "ls"])?;
    ensure!(
        nodes.as_array().is_some_and(|all| all.len() == 1),
        "{nodes}"
    );
    let again = world.host(1).container("again")?;
    let ip = two.ip.to_string();
    world
        .host(1)
        .add_endpoint("blue", &again, &["--name", "two", "--ip", &ip])?;
    Ok(())
}

#[test]
fn a_store_that_lost_all_sessions_withdraws_nobody() -> Result<()> {
    let (mut world, one, two) = world(StoreKind::Consul)?;
    let before = traces(&world, &two)?;
    // One after the other, and nobody is awake to take a new one.
    world.host_mut(2).agent()?.signal(Signal::SIGSTOP)?;
    end_session(&world, 2)?;
    until(CONVERGE, || is_state(&world, 1, 2, "missing"))?;
    world.host_mut(1).agent()?.signal(Signal::SIGSTOP)?;
    end_session(&world, 1)?;
    thread::sleep(OVER);
    world.host_mut(1).agent()?.signal(Signal::SIGCONT)?;
    // It was asleep for longer than the grace period.
    until(CONVERGE, || is_state(&world, 1, 2, "missing"))?;
    ensure!(traces(&world, &two)? == before);
    thread::sleep(GRACE / 2);
    is_state(&world, 1, 2, "missing")?;
    world.host_mut(2).agent()?.signal(Signal::SIGCONT)?;
    until(Duration::from_secs(20), || {
        is_state(&world, 1, 2, "alive")?;
        is_state(&world, 2, 1, "alive")
    })?;
    ensure!(traces(&world, &two)? == before);

    // Awake, both have new ones before anybody could miss them.
    for host in [1, 2] {
        end_session(&world, host)?;
    }
    until(Duration::from_secs(4), || {
        for host in [1, 2] {
            end_session(&world, host)?;
        }
        Ok(())
    })
    .context("no new sessions")?;
    for host in [1, 2] {
        let log = world.host_mut(host).agent()?.log()?;
        ensure!(!log.contains("is dead"), "{log}");
    }
    reachable(&one, &two, 3)
}
