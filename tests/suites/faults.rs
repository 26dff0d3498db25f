//! What an operator fears: the store gone, the agent killed, something left behind.

mod away;
mod clock;
mod cluster;
mod drift;
mod identity;
mod junk;
mod kills;
mod liveness;
mod outage;
mod restart;
mod set_back;
mod snapshot;
mod trouble;
mod upgrade;

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::consul::Consul;
use tests::http;
use tests::lab::Host;
use tests::traffic::ping::Pinging;
use tests::traffic::tcp::transfer;
use tests::wait::until;

use crate::support::traces::{Traces, unchanged};
use crate::support::{CONVERGE, Container, Store, StoreKind, World, reachable};

const INTERVAL: Duration = Duration::from_millis(10);

#[test]
fn consul_killed_and_back() -> Result<()> {
    let mut world = World::new(StoreKind::Consul)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let pinging = Pinging::start(&one.netns, two.ip.into(), INTERVAL, world.work.path())?;

    let Store::Consul(consul) = &mut world.store else {
        anyhow::bail!("this world has no Consul");
    };
    let killed = utc("now")?;
    consul.daemon().kill9()?;
    let since = until(CONVERGE, || {
        let status = world.host(1).cli_json(&["status"])?;
        ensure!(status["store"]["up"] == false, "status: {status}");
        let since = status["store"]["down_since"].as_str().map(str::to_owned);
        since.with_context(|| format!("no time since when: {status}"))
    })?;
    // RFC 3339 in UTC sorts as time does.
    let now = utc("now")?;
    ensure!(
        killed <= since && since <= now,
        "down since {since}, killed at {killed}, now {now}"
    );
    let human = world.host(1).cli_ok(&["status"])?;
    ensure!(
        human.contains("since"),
        "status does not say since when: {human}"
    );
    ensure!(world.host(1).metrics()?.sum("overlay_store_up", &[])? == Some(0.0));
    transfer(&one.netns, &two.netns, two.address(5001), 64 << 20)?.verify()?;

    // Back, with the data it had.
    let ip = IpAddr::V4(world.store_station.ip);
    world.store = Store::Consul(Consul::start(
        &world.store_station.netns,
        ip,
        world.work.path(),
    )?);
    until(Duration::from_secs(60), || {
        for host in [1, 2] {
            let status = world.host(host).cli_json(&["status"])?;
            ensure!(status["store"]["up"] == true, "status: {status}");
        }
        Ok(())
    })?;
    let three = world.container(2, "blue", "three")?;
    reachable(&one, &three, 5)?;

    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    Ok(())
}

/// Both hosts have nothing to say, and what changes on one is known to the other.
fn healed(world: &World, one: &Container, label: &str) -> Result<()> {
    until(Duration::from_secs(60), || {
        for host in [1, 2] {
            let status = world.host(host).cli_json(&["status"])?;
            ensure!(
                status["store"]["up"] == true && status["problems"] == serde_json::json!([]),
                "after {label}: {status}"
            );
        }
        Ok(())
    })?;
    let there = world.container(2, "blue", label)?;
    reachable(one, &there, 1).with_context(|| format!("after {label}"))?;
    world.host(2).cli_ok(&["endpoint", "rm", label])?;
    let listed = world.host(1).cli_json(&["endpoint", "ls"])?;
    ensure!(!listed.to_string().contains(label), "{listed}");
    Ok(())
}

/// One request to the store, of which `path` is what follows `/v1/`.
fn ask(world: &World, method: &str, path: &str, body: &str) -> Result<String> {
    let (from, store) = (&world.store_station.netns, world.store.address());
    let answer = http::request(from, store, method, &format!("/v1/{path}"), body)?;
    ensure!(answer.status == 200, "{method} {path}: {answer:?}");
    Ok(answer.body)
}

/// A time as the agent tells it, in `date`'s words: "now", "4 hours".
fn utc(when: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["-u", "-d", when, "+%Y-%m-%dT%H:%M:%SZ"]);
    Ok(tests::command::output(&mut date)?.trim().to_owned())
}

#[test]
fn agent_killed_and_restarted() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let folder = world.work.path().to_owned();
    let there = Pinging::start(&one.netns, two.ip.into(), INTERVAL, &folder)?;
    let back = Pinging::start(&two.netns, one.ip.into(), INTERVAL, &folder)?;
    let sent_before = packets(world.host(1))?;

    world.host_mut(1).agent()?.kill9()?;
    transfer(&one.netns, &two.netns, two.address(5001), 64 << 20)?.verify()?;
    let during = there.answers()?;
    until(CONVERGE, || {
        ensure!(there.answers()? > during + 50, "traffic stands still");
        Ok(())
    })?;
    world.host_mut(1).start_agent(&url)?;
    // The pins were taken over: counters go on where they were.
    ensure!(
        packets(world.host(1))? > sent_before,
        "the counters began anew"
    );
    let four = world.container(1, "blue", "four")?;
    reachable(&four, &two, 5)?;
    reachable(&two, &four, 5)?;

    for pinging in [there, back] {
        let summary = pinging.stop()?;
        ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    }

    // An ordinary stop leaves the data path as well.
    world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
    reachable(&one, &two, 10)
}

fn packets(host: &Host) -> Result<f64> {
    host.metrics()?
        .sum("overlay_vni_packets_total", &[])?
        .context("no packets counted")
}

#[test]
fn detach_all_leaves_nothing() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let url = world.store.url();
    let before = Traces::settled(world.host(1))?;
    for host in [1, 2] {
        world.host_mut(host).start_agent(&url)?;
    }
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    ensure!(
        before != Traces::of(world.host(1))?,
        "the agent left no trace at all"
    );

    // Not under a running agent's feet.
    let refused = world.host(1).cli(&["detach", "--all"])?;
    ensure!(refused.code == 1, "{refused:?}");
    reachable(&one, &two, 5)?;

    world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
    world.host(1).cli_ok(&["detach", "--all"])?;
    unchanged(world.host(1), &before)?;
    // The container's end of the veth went with the host's.
    ensure!(!one.netns.ip(&["-o", "link"])?.contains("eth0"));
    // Again: nothing to do is no error.
    world.host(1).cli_ok(&["detach", "--all"])?;
    Ok(())
}
