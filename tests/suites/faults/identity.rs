//! What happens to this host's own part of the store: copied, deleted, gone with all the rest.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tests::consul::Consul;
use tests::http;
use tests::traffic::ping::Pinging;
use tests::wait::until;

use super::INTERVAL;
use super::liveness::end_session;
use crate::support::{CONVERGE, Store, StoreKind, World, reachable};

fn problems(world: &World, host: usize) -> Result<String> {
    Ok(world.host(host).cli_json(&["status"])?["problems"].to_string())
}

fn delete(world: &World, path: &str) -> Result<()> {
    let (from, store) = (&world.store_station.netns, world.store.address());
    let path = format!("/v1/kv/overlay/v1/{path}");
    let answer = http::request(from, store, "DELETE", &path, "")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[test]
fn a_copied_state_directory_is_refused() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let url = world.store.url();
    world.host_mut(1).start_agent(&url)?;
    world
        .host(1)
        .cli_ok(&["network", "create", "blue", "--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let node = |world: &World, host: usize| {
        Ok::<_, anyhow::Error>(world.host(host).cli_json(&["node", "ls"])?[0].clone())
    };
    let before = until(CONVERGE, || {
        let found = node(&world, 1)?;
        ensure!(found["state"] == "alive", "{found}");
        Ok(found)
    })?;

    // The machine was cloned while its agent ran.
    let (from, to) = (world.host(1).work(), world.host(2).work());
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(from.folder("state")?.join("."));
    tests::command::output(copy.arg(to.folder("state")?))?;
    ensure!(to.folder("state")?.join("session").exists());
    world.host_mut(2).start_agent(&url)?;
    until(CONVERGE, || {
        let problems = problems(&world, 2)?;
        ensure!(
            problems.contains("another agent runs with this node id"),
            "{problems}"
        );
        Ok(())
    })?;
    // For longer than the first agent takes to renew its session.
    thread::sleep(Duration::from_secs(16));
    let after = node(&world, 1)?;
    ensure!(
        after == before,
        "the copy wrote the record of the first: {after}, before {before}"
    );
    ensure!(problems(&world, 1)? == "[]", "{}", problems(&world, 1)?);

    let two = world.host(2).container("two")?;
    let path = two.path().display().to_string();
    let add = ["endpoint", "add", "--network", "blue", "--netns", &path];
    for command in [&add[..], &["endpoint", "rm", "one"]] {
        let refused = world.host(2).cli(command)?;
        ensure!(
            refused.code == 1 && refused.stderr.contains("another agent runs"),
            "{refused:?}"
        );
    }
    let listed = world.host(1).cli_json(&["endpoint", "ls"])?;
    ensure!(
        listed.as_array().is_some_and(|all| all.len() == 1),
        "{listed}"
    );
    ensure!(one.netns.ip(&["-o", "link"])?.contains("eth0"));

    // Nor while the first has lost its lock for a moment.
    world.host_mut(2).agent()?.stop(Duration::from_secs(10))?;
    world.host_mut(1).agent()?.signal(Signal::SIGSTOP)?;
    end_session(&world, 1)?;
    world.host_mut(2).start_agent(&url)?;
    until(CONVERGE, || {
        let problems = problems(&world, 2)?;
        ensure!(
            problems.contains("was last used by a host with other addresses"),
            "{problems}"
        );
        Ok(())
    })?;
    world.host_mut(1).agent()?.signal(Signal::SIGCONT)?;
    until(CONVERGE, || {
        let problems = problems(&world, 2)?;
        ensure!(
            problems.contains("another agent runs with this node id"),
            "{problems}"
        );
        Ok(())
    })?;
    ensure!(node(&world, 1)? == before, "{}", node(&world, 1)?);
    ensure!(problems(&world, 1)? == "[]", "{}", problems(&world, 1)?);
    Ok(())
}

#[test]
fn a_deleted_record_comes_back() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;
    let status = world.host(2).cli_json(&["status"])?;
    let id = status["node_id"].as_str().context("no node id")?;
    delete(&world, &format!("nodes/{id}"))?;
    until(CONVERGE, || {
        let nodes = world.host(1).cli_json(&["node", "ls"])?;
        let count = nodes.as_array().map_or(0, Vec::len);
        ensure!(count == 2 && problems(&world, 2)? == "[]", "{nodes}");
        Ok(())
    })?;
    reachable(&one, &two, 3)?;

    // An endpoint's record is not made anew, but missed aloud.
    let three = world.container(2, "blue", "three")?;
    let endpoint = world.host(2).cli_json(&["endpoint", "inspect", "three"])?;
    let endpoint = endpoint["id"].as_str().context("no endpoint id")?;
    let net = format!("{:06x}", 1);
    delete(&world, &format!("endpoints/{id}/{net}/{endpoint}"))?;
    until(CONVERGE, || {
        let problems = problems(&world, 2)?;
        ensure!(
            problems.contains(endpoint) && problems.contains("not in the store any more"),
            "{problems}"
        );
        Ok(())
    })?;
    world.host(2).cli_ok(&["endpoint", "rm", "three"])?;
    ensure!(!three.netns.ip(&["-o", "link"])?.contains("eth0"));
    ensure!(problems(&world, 2)? == "[]", "{}", problems(&world, 2)?);
    Ok(())
}

#[test]
fn an_emptied_store_withdraws_nothing() -> Result<()> {
    let mut world = World::new(StoreKind::Consul)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let pinging = Pinging::start(&one.netns, two.ip.into(), INTERVAL, world.work.path())?;

    // By hand, then with its data directory, sessions included; and each time prepared again.
    delete(&world, "?recurse")?;
    for round in ["deleted", "lost"] {
        if round == "lost" {
            let Store::Consul(consul) = &mut world.store else {
                anyhow::bail!("this world has no Consul");
            };
            consul.daemon().kill9()?;
            fs::remove_dir_all(world.work.path().join("consul")).context("lose the data")?;
            let ip = world.store_station.ip.into();
            let consul = Consul::start(&world.store_station.netns, ip, world.work.path())?;
            world.store = Store::Consul(consul);
        }
        for host in [1, 2] {
            until(Duration::from_secs(60), || {
                let problems = problems(&world, host)?;
                ensure!(
                    problems.contains("the last state stays"),
                    "{round}: {problems}"
                );
                Ok(())
            })?;
        }
        prepare(&world)?;
        // Longer than the longest pause between two attempts.
        thread::sleep(Duration::from_secs(20));
        ensure!(problems(&world, 1)?.contains("the last state stays"));
        reachable(&one, &two, 5)?;
    }
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    Ok(())
}

/// What the start of another agent does to an empty store.
fn prepare(world: &World) -> Result<()> {
    let (from, store) = (&world.store_station.netns, world.store.address());
    for (key, value) in [
        ("networks/", ""),
        ("nodes/", ""),
        ("endpoints/", ""),
        ("schema", r#"{"version":1}"#),
    ] {
        let path = format!("/v1/kv/overlay/v1/{key}");
        let answer = http::request(from, store, "PUT", &path, value)?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    Ok(())
}
