//! What a restart of the agent does to a data path that is right already: nothing.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_agent::datapath::Paths;
use overlay_common::maps;
use tests::lab::Host;
use tests::traffic::ping::Pinging;
use tests::wait::until;

use super::INTERVAL;
use crate::support::{CONVERGE, StoreKind, World, reachable};

/// What an agent says of a change that the kernel refused.
const BEHIND: &str = "the data path is behind";

/// The maps that the agent writes.
const WRITTEN: [&str; 7] = [
    maps::ENDPOINTS,
    maps::FDB,
    maps::NEIGHBORS,
    maps::PEERS,
    maps::TUNNELS,
    maps::VNIS,
    maps::STATS_INDEX,
];

/// From here on the kernel refuses every change of these maps, so that one which is undone a
/// moment later is seen as well.
fn freeze_maps(host: &Host) -> Result<()> {
    let paths = Paths::new(host.pins());
    for map in WRITTEN {
        let mut freeze = Command::new("bpftool");
        freeze.args(["map", "freeze", "pinned"]).arg(paths.map(map));
        tests::command::output(&mut freeze)?;
    }
    Ok(())
}

/// What the agent has logged since its log was `before` bytes long.
fn logged_since(host: &mut Host, before: usize) -> Result<String> {
    Ok(host.agent()?.log()?.split_off(before))
}

#[test]
fn unchanged_state_is_not_written_again() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    let three = world.container(1, "blue", "three")?;
    reachable(&one, &two, 5)?;
    reachable(&three, &two, 5)?;

    freeze_maps(world.host(1))?;
    for kill in [true, false] {
        let before = world.host_mut(1).agent()?.log()?.len();
        if kill {
            world.host_mut(1).agent()?.kill9()?;
        } else {
            world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
        }
        world.host_mut(1).start_agent(&url)?;
        // Routes and neighbours are looked at in the first seconds.
        std::thread::sleep(Duration::from_secs(3));
        let log = logged_since(world.host_mut(1), before)?;
        ensure!(!log.contains(BEHIND), "the restart wrote to a map:\n{log}");
    }
    reachable(&one, &two, 5)?;

    // The proof that a write would have been seen.
    let before = world.host_mut(1).agent()?.log()?.len();
    world.host(2).cli_ok(&["endpoint", "rm", "two"])?;
    until(CONVERGE, || {
        let log = logged_since(world.host_mut(1), before)?;
        ensure!(log.contains(BEHIND), "nothing was refused:\n{log}");
        Ok(())
    })
}

/// The snapshot says what the maps hold, and so does the store that comes back: nothing is written, not even for
/// a moment.
#[test]
fn restarted_while_the_store_is_away() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 5)?;
    let pinging = Pinging::start(&one.netns, two.ip.into(), INTERVAL, world.work.path())?;
    // The snapshot is a second behind.
    std::thread::sleep(Duration::from_secs(2));

    world.kill_store()?;
    let neighbors = |world: &World| world.host(1).netns().ip(&["-d", "neigh"]);
    let managed = |text: &str| text.lines().filter(|line| line.contains("managed")).count();
    ensure!(managed(&neighbors(&world)?) == 1, "{}", neighbors(&world)?);
    freeze_maps(world.host(1))?;
    let log = world.host_mut(1).agent()?.log()?.len();
    world.host_mut(1).agent()?.kill9()?;
    world.host_mut(1).start_agent(&url)?;
    let status = world.host(1).cli_json(&["status"])?;
    ensure!(
        status["synced"] == false && status["store"]["up"] == false,
        "{status}"
    );
    ensure!(status["snapshot"]["age_seconds"].is_u64(), "{status}");
    let text = world.host(1).cli_ok(&["status"])?;
    ensure!(text.contains("working from a snapshot of 20"), "{text}");
    let endpoints = world.host(1).cli_ok(&["endpoint", "ls"])?;
    ensure!(
        endpoints.contains("one") && endpoints.contains("two"),
        "{endpoints}"
    );
    // The next hop is still kept, and still in use.
    ensure!(managed(&neighbors(&world)?) == 1, "{}", neighbors(&world)?);

    world.restart_store()?;
    until(Duration::from_secs(60), || {
        let status = world.host(1).cli_json(&["status"])?;
        let over = status["synced"] == true && status["snapshot"].is_null();
        ensure!(
            over && status["problems"] == serde_json::json!([]),
            "{status}"
        );
        Ok(())
    })
    .context("after the store came back")?;
    let log = logged_since(world.host_mut(1), log)?;
    ensure!(!log.contains(BEHIND), "the restart wrote to a map:\n{log}");
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    Ok(())
}
