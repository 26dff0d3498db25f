//! Somebody wrote nonsense into the store.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::http;
use tests::wait::until;

use super::refused;
use crate::support::{CONVERGE, Container, Store, StoreKind, World, network, reachable};

/// Each bad key is reported and skipped, at once and after a start; the rest works.
#[test]
fn only_the_corrupt_key_is_skipped() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16", "--vni", "42"])?;
    world.create_network("spoilt", &["--subnet", "10.43.0.0/16", "--vni", "43"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 1)?;
    let bad = [
        ("networks/spoilt", "{\"vni\": 43, \"subnets\""),
        ("networks/young", "[]"),
        ("nodes/00000000000000ff", "not JSON"),
        ("nodes/not-an-id", "{}"),
        (
            "endpoints/00000000000000ff/00002a/aaaaaaaaaaaaaaaa",
            "{\"mac\": \"no\"}",
        ),
    ];
    for (key, value) in bad {
        put(&world, key, value)?;
    }
    wake(&world, 1, 1)?;
    // An address: nobody follows those, whoever wants it finds out.
    put(&world, "addresses/00002a/0a2a0909", "{}")?;

    check(&world, &bad)?;
    // Those that were there already keep working.
    reachable(&one, &two, 1)?;
    let _first = works(&world, "first")?;

    world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
    world.host_mut(1).start_agent(&url)?;
    check(&world, &bad)?;
    reachable(&one, &two, 1)?;
    let _second = works(&world, "second")?;
    let free = world.host(1).container("free")?;
    let names = [("free", &free)];
    for mistake in [
        (
            "network create young",
            1,
            &[
                "cannot create network young",
                "`overlay/v1/networks/young`",
                "correct",
                "delete",
            ][..],
        ),
        (
            "network rm young",
            1,
            &["cannot remove network young", "`overlay/v1/networks/young`"],
        ),
        (
            "endpoint add --network spoilt --netns @free",
            1,
            &[
                "cannot add an endpoint to network spoilt",
                "`overlay/v1/networks/spoilt`",
                "correct",
            ],
        ),
        (
            "endpoint add --network blue --netns @free --ip 10.42.9.9",
            1,
            &[
                "cannot add an endpoint",
                "`overlay/v1/addresses/00002a/0a2a0909`",
                "correct",
            ],
        ),
    ] {
        refused(world.host(1), &names, mistake)?;
    }

    // The way out that the refusals name.
    for (key, _) in bad {
        let path = format!("/v1/kv/overlay/v1/{key}");
        request(&world, "DELETE", &path, "")?;
    }
    wake(&world, 2, 0)?;
    until(CONVERGE, || {
        let status = world.host(1).cli_json(&["status"])?;
        ensure!(status["problems"] == serde_json::json!([]), "{status}");
        Ok(())
    })
}

/// `status` of both hosts names the bad keys, `network ls` has the good ones.
fn check(world: &World, bad: &[(&str, &str)]) -> Result<()> {
    for host in [world.host(1), world.host(2)] {
        until(CONVERGE, || {
            let status = host.cli_json(&["status"])?;
            ensure!(status["store"]["up"] == true, "{status}");
            let problems = status["problems"].as_array().context("no problems")?;
            for (key, _) in bad {
                let name = format!("`overlay/v1/{key}`");
                let lines: Vec<_> = problems
                    .iter()
                    .filter_map(|problem| problem.as_str())
                    .filter(|problem| problem.contains(&name))
                    .collect();
                ensure!(lines.len() == 1, "{key} once: {status}");
                ensure!(lines[0].contains("skipped"), "{}", lines[0]);
                ensure!(!lines[0].contains('\n'), "{}", lines[0]);
            }
            ensure!(problems.len() == bad.len(), "others: {status}");
            Ok(())
        })?;
        let text = host.cli_ok(&["status"])?;
        ensure!(text.contains("overlay/v1/networks/spoilt"), "{text}");
        network(host, "blue")?;
    }
    Ok(())
}

/// A new network and an endpoint on each host.
fn works(world: &World, name: &str) -> Result<[Container; 2]> {
    world.create_network(name, &[])?;
    let three = world.container(1, "blue", &format!("{name}-three"))?;
    let four = world.container(2, "blue", &format!("{name}-four"))?;
    reachable(&three, &four, 1)?;
    Ok([three, four])
}

/// The index entries of the node whose endpoint is corrupt: without them nobody reads it.
fn wake(world: &World, revision: u64, endpoints: u64) -> Result<()> {
    let node = "00000000000000ff";
    let entry = format!("{{\"rev\": {revision}, \"endpoints\": {endpoints}}}");
    put(world, &format!("index/00002a/n/1f/{node}"), &entry)?;
    let hint = format!("\"{node} aaaaaaaaaaaaaaaa {revision}\"");
    put(world, "index/00002a/b/1f", &hint)
}

fn put(world: &World, key: &str, value: &str) -> Result<()> {
    request(world, "PUT", &format!("/v1/kv/overlay/v1/{key}"), value)
}

fn request(world: &World, method: &str, path: &str, body: &str) -> Result<()> {
    let Store::Embedded(store) = &world.store else {
        anyhow::bail!("this world has another store");
    };
    let from = &world.store_station.netns;
    let answer = http::request(from, store.address(), method, path, body)?;
    ensure!(answer.status == 200, "{method} {path}: {answer:?}");
    Ok(())
}
