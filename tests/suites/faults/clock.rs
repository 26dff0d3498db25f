//! The clock of a host jumps by hours, forward and back, while its agent runs.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::clock::Clock;
use tests::process::cpu_seconds;
use tests::traffic::ping::Pinging;
use tests::wait::until;
use tests::workdir::WorkDir;

use super::liveness::{end_session, is_state};
use super::{INTERVAL, healed, utc};
use crate::support::{CONVERGE, StoreKind, World, reachable};

const HOURS: i64 = 5 * 3600;

/// Of which a third passes in this test. Hosts are looked at every tenth of it.
const GRACE: &str = "20";

/// An address as host 1 lists it: its state, and since when it has it.
fn address(world: &World, ip: &str) -> Result<Option<(String, String)>> {
    let all = world.host(1).cli_json(&["ipam", "ls", "blue"])?;
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
    let mut all = all.as_array().context("no list")?.iter();
    let found = all.find(|address| address["ip"] == ip);
    Ok(found.map(|address| (text(&address["state"]), text(&address["since"]))))
}

#[test]
fn jumps_by_hours() -> Result<()> {
    let folder = WorkDir::new("clock")?;
    let clock = Clock::new(folder.path())?;
    let mut world = World::without_agents(StoreKind::Consul)?;
    let url = world.store.url();
    let mut environment = clock.environment()?;
    environment.push(("OVERLAY_STORE", &url));
    let host = world.host_mut(1);
    host.spawn_agent_env(&environment, &["--node-grace", GRACE])?;
    host.wait_agent_ready(tests::agent::START_TIMEOUT)?;
    world.host_mut(2).start_agent(&url)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    let early = world.container(1, "blue", "early")?;
    let late = world.container(1, "blue", "late")?;
    reachable(&one, &two, 3)?;
    let there = Pinging::start(&one.netns, two.ip.into(), INTERVAL, world.work.path())?;
    let back = Pinging::start(&two.netns, one.ip.into(), INTERVAL, world.work.path())?;

    // What was released before the jump does not come to be free by it, whoever wakes up.
    world.host(1).cli_ok(&["endpoint", "rm", "early"])?;
    clock.set(HOURS)?;
    heard(&world, "ahead")?;
    world.host(1).cli_ok(&["endpoint", "rm", "late"])?;
    let (_, since) = address(&world, &late.ip.to_string())?.context("late has no address")?;
    ensure!(since > utc("4 hours")?, "the clock did not jump: {since}");
    thread::sleep(Duration::from_secs(1));
    for ip in [early.ip, late.ip] {
        let found = address(&world, &ip.to_string())?;
        ensure!(
            found.as_ref().is_some_and(|(state, _)| state == "released"),
            "{ip}: {found:?}"
        );
    }
    healthy(&mut world, "ahead")?;
    healed(&world, &one, "ahead")?;
    clock.set(-HOURS)?;
    healthy(&mut world, "behind")?;
    healed(&world, &one, "behind")?;
    for pinging in [there, back] {
        let summary = pinging.stop()?;
        ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    }

    // Nobody is buried before his time.
    world.host_mut(2).agent()?.signal(Signal::SIGSTOP)?;
    end_session(&world, 2)?;
    until(CONVERGE, || is_state(&world, 1, 2, "missing"))?;
    for seconds in [HOURS, -HOURS] {
        clock.set(seconds)?;
        thread::sleep(Duration::from_secs(3));
        is_state(&world, 1, 2, "missing")?;
    }
    world.host_mut(2).agent()?.signal(Signal::SIGCONT)?;
    until(2 * CONVERGE, || is_state(&world, 1, 2, "alive"))?;
    reachable(&one, &two, 3)
}

/// The store was heard of a moment ago, and not hours.
fn heard(world: &World, label: &str) -> Result<()> {
    let metrics = world.host(1).metrics()?;
    let age = metrics.sum("overlay_store_last_contact_seconds", &[])?;
    ensure!(age.is_some_and(|age| age < 60.0), "{label}: {age:?} s");
    Ok(())
}

/// After a jump: nothing that is used is taken for leaked, the store does not count as silent, and the agent is idle.
fn healthy(world: &mut World, label: &str) -> Result<()> {
    let host = world.host(1);
    let freed = host.cli_json(&["ipam", "reclaim"])?;
    ensure!(freed == serde_json::json!([]), "{label}: {freed}");
    heard(world, label)?;
    let pid = world.host_mut(1).agent()?.pid();
    let before = cpu_seconds(pid)?;
    thread::sleep(Duration::from_secs(2));
    let used = cpu_seconds(pid)? - before;
    ensure!(used < 1.0, "{label}: busy for {used} of 2 s");
    Ok(())
}
