//! A store in trouble and one that is not reached, an agent that stands still, and two hosts that want the same:
//! one after the other under traffic that loses nothing.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::traffic::ping::Pinging;
use tests::wait::until;

use super::{INTERVAL, ask, healed};
use crate::support::relay::{Relay, Trouble};
use crate::support::{CONVERGE, Container, StoreKind, World, reachable};

#[test]
fn the_store_fails_the_agent_freezes_and_hosts_want_the_same() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Consul)?;
    let relay = Relay::start(world.host(1).netns(), world.store.address())?;
    world.host_mut(1).start_agent(&relay.url())?;
    let url = world.store.url();
    world.host_mut(2).start_agent(&url)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;
    let pinging = Pinging::start(&one.netns, two.ip.into(), INTERVAL, world.work.path())?;
    errors(&world, &relay, &one)?;
    slow(&world, &relay, &one)?;
    behind(&world, &relay, &one)?;
    same_claims(&world)?;
    partition(&world, &one)?;
    frozen(&mut world, &one)?;
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    Ok(())
}

/// Status 500 for a while.
fn errors(world: &World, relay: &Relay, one: &Container) -> Result<()> {
    relay.trouble(Some(Trouble::Error));
    let netns = world.host(1).container("failed")?;
    let path = netns.path().display().to_string();
    let add = ["endpoint", "add", "--network", "blue", "--netns", &path];
    let refused = world.host(1).cli(&add)?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("500") && refused.stderr.contains("leader"),
        "{refused:?}"
    );
    ensure!(!netns.ip(&["-o", "link"])?.contains("eth0"));
    // Made and gone meanwhile: of neither may anything be left.
    let during = world.container(2, "blue", "during")?;
    let past = world.container(2, "blue", "past")?;
    thread::sleep(Duration::from_secs(3));
    let status = world.host(1).cli_json(&["status"])?;
    ensure!(status["store"]["up"] == false, "{status}");
    world.host(2).cli_ok(&["endpoint", "rm", "past"])?;
    relay.trouble(None);
    reachable(one, &during, 1)?;
    world.host(2).cli_ok(&["endpoint", "rm", "during"])?;
    drop(past);
    healed(world, one, "errors")
}

/// Every answer is late.
fn slow(world: &World, relay: &Relay, one: &Container) -> Result<()> {
    relay.trouble(Some(Trouble::Slow(Duration::from_millis(700))));
    let here = world.container(1, "blue", "slow")?;
    let there = world.container(2, "blue", "quick")?;
    reachable(&here, &there, 1)?;
    reachable(one, &there, 1)?;
    world.host(1).cli_ok(&["endpoint", "rm", "slow"])?;
    world.host(2).cli_ok(&["endpoint", "rm", "quick"])?;
    relay.trouble(None);
    healed(world, one, "slowness")
}

/// Answers of before an endpoint was removed: whatever is read so, it does not stay, and nobody else goes.
fn behind(world: &World, relay: &Relay, one: &Container) -> Result<()> {
    let known = |of: &Container| {
        let dump = world.host(1).cli_json(&["dump"])?;
        let fdb = dump["fdb"].as_array().context("no FDB")?;
        let mac = of.mac.to_string();
        Ok::<_, anyhow::Error>(fdb.iter().any(|entry| entry["mac"] == mac.as_str()))
    };
    let gone = |of: &Container| {
        until(CONVERGE, || {
            ensure!(!known(of)?, "the removed endpoint stays");
            Ok(())
        })
    };
    let wakes = world.container(2, "blue", "wakes")?;
    for (name, text) in [("changes", "/v1/txn"), ("all", "")] {
        let end = world.container(2, "blue", name)?;
        reachable(one, &end, 1)?;
        let before = relay.answers(text);
        // What wakes is new, and what is read then, or all that is read then, is old.
        relay.set_back(before.clone());
        world.host(2).cli_ok(&["endpoint", "rm", name])?;
        gone(&end).with_context(|| name.to_owned())?;
        ensure!(relay.catch_up() > 0, "{name}: no old answer was given");
        if !text.is_empty() {
            continue;
        }
        // It is known to be gone, all that is read is old, and the next answer is late.
        relay.set_back(before);
        relay.trouble(Some(Trouble::Slow(Duration::from_secs(1))));
        world.host(2).cli_ok(&["endpoint", "rm", "wakes"])?;
        for _ in 0..30 {
            ensure!(!known(&end)?, "the removed endpoint is back");
            thread::sleep(Duration::from_millis(100));
        }
        relay.trouble(None);
        ensure!(relay.catch_up() > 2, "no old answers were given");
        gone(&wakes)?;
    }
    healed(world, one, "behind")
}

/// Of two who want one address, or one VNI, one gets it, and the other is told who.
fn same_claims(world: &World) -> Result<()> {
    let run = |host: usize, line: &[String]| {
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        world.host(host).cli(&line)
    };
    let both = |[first, second]: [Vec<String>; 2]| {
        thread::scope(|scope| {
            let other = scope.spawn(|| run(2, &second));
            let own = run(1, &first)?;
            let other = other.join().map_err(|_| anyhow::anyhow!("panicked"))??;
            Ok::<_, anyhow::Error>([own, other])
        })
    };
    for round in 0..3 {
        let (ip, name) = (format!("10.42.200.{}", 10 + round), format!("claim{round}"));
        let mut netns = Vec::new();
        for host in [1, 2] {
            netns.push(world.host(host).container("claim")?);
        }
        let add = |host: usize| {
            let path = netns[host - 1].path().display().to_string();
            let line =
                format!("endpoint add --network blue --ip {ip} --name {name} --netns {path}");
            line.split(' ').map(str::to_owned).collect()
        };
        let said = both([add(1), add(2)])?;
        let got: Vec<_> = said.iter().filter(|said| said.code == 0).collect();
        let refused: Vec<_> = said.iter().filter(|said| said.code == 1).collect();
        ensure!(got.len() == 1 && refused.len() == 1, "{said:?}");
        let winner = if said[0].code == 0 { "host1" } else { "host2" };
        // The name, where it is known that early; the address in any case.
        let why = &refused[0].stderr;
        ensure!(
            why.contains(winner) || why.contains("exists"),
            "{winner}: {why}"
        );
        let host = if said[0].code == 0 { 1 } else { 2 };
        world.host(host).cli_ok(&["endpoint", "rm", &name])?;

        let vni = (700 + round).to_string();
        let create = |name: &str| {
            let line = format!("network create {name}{round} --vni {vni}");
            line.split(' ').map(str::to_owned).collect()
        };
        let said = both([create("a"), create("b")])?;
        let won = said
            .iter()
            .position(|said| said.code == 0)
            .context("nobody")?;
        let (winner, loser) = (["a", "b"][won], &said[1 - won]);
        ensure!(
            loser.code == 1
                && loser.stderr.contains(&vni)
                && loser.stderr.contains(&format!("`{winner}{round}`")),
            "{loser:?}"
        );
    }
    Ok(())
}

/// The way to the store is down.
fn partition(world: &World, one: &Container) -> Result<()> {
    let switch = world.lab.switch().context("no switch")?;
    // The store is the third that was plugged in.
    switch.ip(&["link", "set", "p3", "down"])?;
    let netns = world.host(2).container("apart")?;
    let path = netns.path().display().to_string();
    let add = ["endpoint", "add", "--network", "blue", "--netns", &path];
    let refused = world.host(2).cli(&add)?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(!netns.ip(&["-o", "link"])?.contains("eth0"));
    let status = world.host(2).cli_json(&["status"])?;
    ensure!(status["store"]["up"] == false, "{status}");
    switch.ip(&["link", "set", "p3", "up"])?;
    healed(world, one, "partition")
}

/// The agent stands still until its session is gone.
fn frozen(world: &mut World, one: &Container) -> Result<()> {
    let status = world.host(2).cli_json(&["status"])?;
    let id = status["node_id"].as_str().context("no node id")?;
    let record = format!("kv/overlay/v1/nodes/{id}");
    let session = |world: &World| {
        let said: Value = serde_json::from_str(&ask(world, "GET", &record, "")?)?;
        Ok::<_, anyhow::Error>(said[0]["Session"].as_str().map(str::to_owned))
    };
    let before = session(world)?.context("no session")?;
    world.host_mut(2).agent()?.signal(Signal::SIGSTOP)?;
    ask(world, "PUT", &format!("session/destroy/{before}"), "")?;
    ensure!(session(world)?.is_none());
    let late = world.container(1, "blue", "late")?;
    thread::sleep(Duration::from_secs(1));
    world.host_mut(2).agent()?.signal(Signal::SIGCONT)?;
    // It renews every 15 seconds.
    until(2 * CONVERGE, || {
        let now = session(world)?.context("no session")?;
        ensure!(now != before, "the lost session");
        Ok(())
    })?;
    let there = world.container(2, "blue", "thawed")?;
    reachable(&there, &late, 1)?;
    world.host(1).cli_ok(&["endpoint", "rm", "late"])?;
    world.host(2).cli_ok(&["endpoint", "rm", "thawed"])?;
    healed(world, one, "freeze")
}
