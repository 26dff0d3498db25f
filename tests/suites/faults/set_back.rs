//! Consul is set back to an earlier snapshot while the agents run: its index goes backwards, what was made since
//! is gone, what was removed is back.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::traffic::ping::Pinging;
use tests::wait::until;

use super::{INTERVAL, healed};
use crate::support::{CONVERGE, StoreKind, World, network, reachable};

#[test]
fn consul_restored_from_an_old_snapshot() -> Result<()> {
    let world = World::new(StoreKind::Consul)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    let old = world.container(2, "blue", "old")?;
    reachable(&one, &two, 3)?;
    reachable(&one, &old, 1)?;
    let pinging = Pinging::start(&one.netns, two.ip.into(), INTERVAL, world.work.path())?;

    let file = world.work.path().join("consul.snapshot");
    let file = file.display().to_string();
    world.consul(&["snapshot", "save", &file])?;
    world.create_network("red", &[])?;
    let new = world.container(2, "blue", "new")?;
    reachable(&one, &new, 1)?;
    world.host(2).cli_ok(&["endpoint", "rm", "old"])?;
    world.consul(&["snapshot", "restore", &file])?;

    // Its host says of each what is to be done.
    until(2 * CONVERGE, || {
        let status = world.host(2).cli_json(&["status"])?;
        let problems = status["problems"].to_string();
        ensure!(
            problems.contains("not in the store any more"),
            "nothing of the new one: {status}"
        );
        ensure!(network(world.host(2), "red").is_err(), "red is still there");
        Ok(())
    })?;
    for name in ["old", "new"] {
        until(CONVERGE, || world.host(2).cli_ok(&["endpoint", "rm", name]))?;
    }
    ensure!(!new.netns.ip(&["-o", "link"])?.contains("eth0"));
    until(Duration::from_secs(30), || {
        let listed = world.host(1).cli_json(&["endpoint", "ls"])?;
        ensure!(
            listed.as_array().is_some_and(|all| all.len() == 2),
            "{listed}"
        );
        Ok(())
    })?;
    healed(&world, &one, "restore")?;
    world.create_network("red", &[])?;
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    Ok(())
}
