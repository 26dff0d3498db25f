//! What somebody else has written below the prefix.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::traffic::ping::Pinging;
use tests::wait::until;

use super::{INTERVAL, ask, healed};
use crate::support::{CONVERGE, StoreKind, World, reachable};

/// In each of two folders.
const KEYS: usize = 5000;
/// What Consul takes in one transaction.
const TOGETHER: usize = 64;

#[test]
fn junk_and_another_layout_disturb_nobody() -> Result<()> {
    let mut world = World::new(StoreKind::Consul)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;
    let pinging = Pinging::start(&one.netns, two.ip.into(), INTERVAL, world.work.path())?;

    for folder in ["networks", "endpoints"] {
        let keys: Vec<_> = (0..KEYS).collect();
        for some in keys.chunks(TOGETHER) {
            let operations = some.iter().map(|number| {
                let key = format!("overlay/v1/{folder}/junk{number:05}/x");
                json!({"KV": {"Verb": "set", "Key": key, "Value": "anVuaw=="}})
            });
            let operations: Vec<_> = operations.collect();
            ask(&world, "PUT", "txn", &json!(operations).to_string())?;
        }
    }
    ask(&world, "PUT", "kv/overlay/v1/networks/%ff%fe", "x")?;
    ask(
        &world,
        "PUT",
        "kv/overlay/v1/networks/large",
        &"x".repeat(500 << 10),
    )?;
    for host in [1, 2] {
        until(2 * CONVERGE, || {
            let status = world.host(host).cli_json(&["status"])?;
            let problems = status["problems"].as_array().context("no problems")?;
            ensure!(
                (2..=25).contains(&problems.len()) && status.to_string().contains("more keys"),
                "{} problems",
                problems.len()
            );
            Ok(())
        })?;
    }
    let began = Instant::now();
    let three = world.container(2, "blue", "three")?;
    reachable(&one, &three, 1)?;
    let listed = world.host(1).cli_json(&["endpoint", "ls"])?;
    ensure!(
        listed.as_array().is_some_and(|all| all.len() == 3),
        "{listed}"
    );
    world.host(2).cli_ok(&["endpoint", "rm", "three"])?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(10), "it took {took:?}");
    let told = world.host_mut(1).agent()?.log()?.lines().count();
    ensure!(told < 2500, "{told} lines of log");
    println!(
        "an endpoint among {} junk keys: {took:?}, {told} lines of log",
        2 * KEYS
    );

    // Too large for the store itself, which says so.
    // 600 KiB in base64.
    let value = "eHh4".repeat(200 << 10);
    let operation =
        json!([{"KV": {"Verb": "set", "Key": "overlay/v1/networks/larger", "Value": value}}]);
    ensure!(ask(&world, "PUT", "txn", &operation.to_string()).is_err());

    for folder in ["networks", "endpoints"] {
        ask(
            &world,
            "DELETE",
            &format!("kv/overlay/v1/{folder}/junk?recurse"),
            "",
        )?;
    }
    for key in ["%ff%fe", "large"] {
        ask(
            &world,
            "DELETE",
            &format!("kv/overlay/v1/networks/{key}"),
            "",
        )?;
    }
    healed(&world, &one, "junk")?;

    // A later version's layout: who runs goes on, and makes nothing in it.
    ask(&world, "PUT", "kv/overlay/v1/schema", r#"{"version":99}"#)?;
    for host in [1, 2] {
        let refused = world.host(host).cli(&["network", "create", "red"])?;
        ensure!(
            refused.code == 1 && refused.stderr.contains("layout version 99"),
            "{refused:?}"
        );
    }
    reachable(&one, &two, 3)?;
    ask(&world, "PUT", "kv/overlay/v1/schema", r#"{"version":1}"#)?;
    healed(&world, &one, "layout")?;
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    Ok(())
}
