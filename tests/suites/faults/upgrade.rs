//! Hosts of different versions, and a store that is a later version's.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::http;
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World, reachable};

fn put(world: &World, path: &str, value: &str) -> Result<String> {
    let (from, store) = (&world.store_station.netns, world.store.address());
    let answer = http::request(from, store, "PUT", path, value)?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.body)
}

fn problems(world: &World, host: usize) -> Result<String> {
    Ok(world.host(host).cli_json(&["status"])?["problems"].to_string())
}

#[test]
fn versions_are_told_and_a_later_layout_is_left_alone() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    world.create_network("red", &["--subnet", "10.43.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;

    // A host that was upgraded already.
    let session = put(&world, "/v1/session/create", "{}")?;
    let session: serde_json::Value = serde_json::from_str(&session)?;
    let session = session["ID"].as_str().context("no session")?;
    let record = r#"{"name":"host3","vteps":["192.0.2.33"],"port":4789,"version":"99.1","schema":1,
        "agent":true,"later":true}"#;
    let key = "/v1/kv/overlay/v1/nodes/00000000000000aa";
    put(&world, &format!("{key}?acquire={session}"), record)?;
    until(CONVERGE, || {
        let problems = problems(&world, 1)?;
        ensure!(
            problems.contains("99.1 on host3") && problems.contains("on host1, host2"),
            "{problems}"
        );
        Ok(())
    })?;
    let listed = world.host(1).cli_ok(&["node", "ls"])?;
    ensure!(listed.contains("99.1"), "{listed}");
    put(&world, &format!("/v1/session/destroy/{session}"), "")?;
    until(CONVERGE, || {
        ensure!(problems(&world, 1)? == "[]", "{}", problems(&world, 1)?);
        Ok(())
    })?;

    // It has changed the store to its layout, in which this is not what it was.
    let schema = r#"{"version":2}"#;
    put(&world, "/v1/kv/overlay/v1/schema", schema)?;
    let (from, store) = (&world.store_station.netns, world.store.address());
    let red = "/v1/kv/overlay/v1/networks/red";
    http::request(from, store, "DELETE", red, "")?;
    until(CONVERGE, || {
        let problems = problems(&world, 2)?;
        ensure!(
            problems.contains("the last state stays") && problems.contains("layout version 2"),
            "{problems}"
        );
        Ok(())
    })?;
    world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
    world.host_mut(1).spawn_agent(&url, &[])?;
    let ended = world.host_mut(1).agent()?.wait_exit(CONVERGE)?;
    let log = world.host_mut(1).agent()?.log()?;
    ensure!(ended.code() == Some(1), "{ended}: {log}");
    ensure!(
        log.contains("error: `overlay/v1/schema` says layout version 2"),
        "{log}"
    );
    reachable(&one, &two, 3)
}
