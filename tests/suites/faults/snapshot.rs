//! An agent is started while its store is away: it goes on with what it has read before.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_agent::datapath::Paths;
use tests::agent::METRICS;
use tests::http;
use tests::lab::UNDERLAY;
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World, mac_of_device, reachable};

/// Long enough for everything that is known to be in the snapshot.
const SAVED: Duration = Duration::from_secs(2);

fn ids(world: &World) -> Result<Vec<String>> {
    let endpoints = world.host(1).cli_json(&["endpoint", "ls"])?;
    let endpoints = endpoints.as_array().context("no list")?;
    let name = |endpoint: &serde_json::Value| endpoint["name"].as_str().map(str::to_owned);
    let mut names: Vec<_> = endpoints.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// The agent has read the store again.
fn is_over(world: &World) -> Result<()> {
    until(Duration::from_secs(60), || {
        let status = world.host(1).cli_json(&["status"])?;
        let over = status["synced"] == true && status["snapshot"].is_null();
        ensure!(over, "{status}");
        Ok(())
    })
}

/// With maps that begin empty, as after an upgrade to another layout.
#[test]
fn serves_what_is_known_without_consul() -> Result<()> {
    let mut world = World::new(StoreKind::Consul)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    let _gone = world.container(2, "blue", "gone")?;
    reachable(&one, &two, 5)?;
    until(CONVERGE, || {
        ensure!(ids(&world)? == ["gone", "one", "two"]);
        Ok(())
    })?;

    world.host_mut(1).agent()?.stop(CONVERGE)?;
    // Of this the snapshot knows nothing.
    world.host(2).cli_ok(&["endpoint", "rm", "gone"])?;
    let late = world.container(2, "blue", "late")?;
    world.kill_store()?;
    let maps = Paths::new(world.host(1).pins()).maps();
    fs::remove_dir_all(&maps).with_context(|| format!("remove {}", maps.display()))?;

    world.host_mut(1).spawn_agent(&url, &[])?;
    world.host_mut(1).wait_agent_ready(CONVERGE)?;
    reachable(&one, &two, 5)?;
    ensure!(ids(&world)? == ["gone", "one", "two"], "{:?}", ids(&world)?);
    let networks = world.host(1).cli_ok(&["network", "ls"])?;
    ensure!(networks.contains("blue"), "{networks}");
    let metrics = world.host(1).metrics()?;
    ensure!(metrics.sum("overlay_store_up", &[])? == Some(0.0));
    let age = metrics.sum("overlay_store_last_contact_seconds", &[])?;
    ensure!(
        age.is_some_and(|age| (1.0..300.0).contains(&age)),
        "{age:?}"
    );
    let ready = http::request(world.host(1).netns(), METRICS, "GET", "/readyz", "")?;
    ensure!(ready.status == 200, "{ready:?}");

    // The way to the other host changes: its device has another MAC, which it announces.
    let there = world.host(2).netns();
    there.sysctl(&format!("net.ipv4.conf.{UNDERLAY}.arp_notify"), "1")?;
    let new = "02:00:00:00:be:ef";
    there.ip(&["link", "set", UNDERLAY, "address", new])?;
    ensure!(mac_of_device(there, UNDERLAY)?.to_string() == new);
    until(CONVERGE, || {
        let dump = world.host(1).cli_json(&["dump"])?;
        ensure!(dump["tunnels"][0]["next_hop"] == new, "{}", dump["tunnels"]);
        Ok(())
    })?;
    reachable(&one, &two, 5)?;

    world.restart_store()?;
    is_over(&world)?;
    reachable(&one, &late, 5)?;
    ensure!(ids(&world)? == ["late", "one", "two"], "{:?}", ids(&world)?);
    let dump = world.host(1).cli_json(&["dump"])?;
    let fdb = dump["fdb"].as_array().context("no fdb")?.len();
    // The three and the gateway.
    ensure!(fdb == 4, "{dump}");
    Ok(())
}

/// A file system of some size, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf, size: &str) -> Result<Self> {
        let mut mount = Command::new("mount");
        mount.args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size},mode=0755"),
            "tmpfs",
        ]);
        tests::command::output(mount.arg(&at))?;
        Ok(Self(at))
    }

    fn resize(&self, size: &str) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]);
        tests::command::output(mount.arg(&self.0))?;
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_or_a_corrupt_file_is_told_and_harms_nothing() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let state = world.host(1).work().folder("state")?;
    let disk = SmallDisk::new(state.clone(), "64k")?;
    world.start_agents(&[])?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;
    let problems = |world: &World, wanted: &str| {
        until(Duration::from_secs(30), || {
            let status = world.host(1).cli_json(&["status"])?;
            let problems = status["problems"].to_string();
            let there = match wanted {
                "" => problems == "[]",
                wanted => problems.contains(wanted),
            };
            ensure!(there, "wanted `{wanted}`: {status}");
            Ok(())
        })
    };
    problems(&world, "No space left on device")?;
    let log = world.host_mut(1).agent()?.log()?;
    ensure!(log.contains("cannot be kept"), "{log}");
    disk.resize("32m")?;
    problems(&world, "")?;

    std::thread::sleep(SAVED);
    world.host_mut(1).agent()?.kill9()?;
    let file = state.join("snapshot.redb");
    let bytes = fs::OpenOptions::new().write(true).open(&file)?;
    bytes.write_all_at(&[0xa5; 4096], 0)?;
    world.kill_store()?;
    world.host_mut(1).spawn_agent(&url, &[])?;
    problems(&world, "snapshot.redb.aside")?;
    // As without a snapshot: the last state stays.
    ensure!(!world.host(1).cli_ok(&["status"])?.contains("working from"));
    reachable(&one, &two, 3)?;
    world.restart_store()?;
    is_over(&world)?;
    fs::remove_file(state.join("snapshot.redb.aside"))?;
    problems(&world, "")?;

    // The new one is good.
    std::thread::sleep(SAVED);
    world.host_mut(1).agent()?.kill9()?;
    world.kill_store()?;
    world.host_mut(1).start_agent(&url)?;
    ensure!(ids(&world)? == ["one", "two"], "{:?}", ids(&world)?);
    reachable(&one, &two, 3)
}
