//! Daemon, agent or both die at any moment: nothing is lost, nothing stays.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tests::consul::Consul;
use tests::docker::IMAGE;
use tests::lab::Host;
use tests::wait::until;

use super::pair::Pair;
use super::world::{Dockers, address, inspect, reaches};
use crate::support::snapshot::held;
use crate::support::{CONVERGE, Store, World};

/// Longest that a call of a driver takes, with the command around it.
const ANSWER: Duration = Duration::from_secs(7);

#[test]
fn daemon_restarts_under_running_containers() -> Result<()> {
    let mut pair = Pair::new(true)?;
    pair.reachable()?;
    pair.all.dockers[0].kill9()?;
    pair.reachable_while_dead()?;
    pair.all.dockers[0].restart()?;
    pair.reachable()?;
    ensure!(address(pair.all.docker(1), "blue", "one")? == pair.one);
    pair.remove_all()
}

#[test]
fn daemon_restarts_and_its_containers_end() -> Result<()> {
    let mut pair = Pair::new(false)?;
    pair.all.dockers[0].restart()?;
    ensure!(inspect(pair.all.docker(1), "one")?["State"]["Running"] == false);
    pair.all.docker(1).cli_ok(&["start", "one"])?;
    pair.one = address(pair.all.docker(1), "blue", "one")?;
    pair.reachable()?;
    // Killed, it ends its containers at the next start only.
    pair.all.dockers[0].kill9()?;
    pair.all.dockers[0].restart()?;
    pair.all.docker(1).cli_ok(&["start", "one"])?;
    pair.one = address(pair.all.docker(1), "blue", "one")?;
    pair.reachable()?;
    pair.remove_all()
}

#[test]
fn agent_restarts() -> Result<()> {
    let mut pair = Pair::new(false)?;
    pair.kill_agent()?;
    pair.reachable()?;
    pair.start_agent()?;
    pair.reachable()?;
    // What Docker asks by the ids of before is understood.
    pair.all.docker(1).cli_ok(&["restart", "-t", "1", "one"])?;
    pair.one = address(pair.all.docker(1), "blue", "one")?;
    pair.reachable()?;
    pair.remove_all()
}

#[test]
fn both_restart_at_once() -> Result<()> {
    let mut pair = Pair::new(true)?;
    pair.kill_agent()?;
    pair.all.dockers[0].kill9()?;
    pair.reachable_while_dead()?;
    pair.start_agent()?;
    pair.all.dockers[0].restart()?;
    pair.reachable()?;
    ensure!(address(pair.all.docker(1), "blue", "one")? == pair.one);
    pair.remove_all()
}

/// What a start of the machine takes from a host: devices and pins.
fn wipe(host: &Host) -> Result<()> {
    let links = host.netns().ip(&["-o", "link"])?;
    for name in links.lines().filter_map(|line| line.split(": ").nth(1)) {
        let name = name.split('@').next().unwrap_or_default();
        if name.starts_with("ov") {
            host.netns().ip(&["link", "del", name])?;
        }
    }
    std::fs::remove_dir_all(host.pins()).context("remove the pins")?;
    Ok(())
}

/// The machine starts anew: devices, pins and processes are gone, what is on disk is there.
#[test]
fn host_restarts() -> Result<()> {
    let mut pair = Pair::new(false)?;
    let more = ["--restart", "always"];
    pair.all.run(1, "blue", "always", &more)?;
    pair.kill_agent()?;
    let Dockers { dockers, world, .. } = &mut pair.all;
    dockers[0].power_off(world.host(1))?;
    wipe(pair.all.world.host(1))?;
    pair.start_agent()?;
    pair.all.dockers[0].restart()?;
    let always = until(CONVERGE, || address(pair.all.docker(1), "blue", "always"))?;
    reaches(pair.all.docker(2), "two", &always)?;
    pair.all.docker(1).cli_ok(&["start", "one"])?;
    pair.one = address(pair.all.docker(1), "blue", "one")?;
    pair.reachable()?;
    pair.all.docker(1).cli_ok(&["rm", "-f", "always"])?;
    pair.remove_all()
}

/// Without the store the answer is an error, and it comes soon; containers that run go on, and can
/// be stopped.
#[test]
fn store_is_down() -> Result<()> {
    let mut pair = Pair::new(false)?;
    pair.all.consul()?.kill9()?;
    for args in [
        &["run", "--rm", "--network", "blue", IMAGE, "true"][..],
        &[
            "network",
            "create",
            "-d",
            "overlay-ebpf",
            "--ipam-driver",
            "overlay-ebpf",
            "red",
        ],
    ] {
        let since = Instant::now();
        let said = pair.all.docker(1).cli(args)?;
        ensure!(
            since.elapsed() < 2 * ANSWER,
            "{args:?} took {:?}",
            since.elapsed()
        );
        ensure!(
            said.code != 0 && said.stderr.contains("store"),
            "{args:?}: {said:?}"
        );
    }
    pair.reachable()?;
    let since = Instant::now();
    pair.all.docker(1).cli_ok(&["rm", "-f", "one"])?;
    ensure!(
        since.elapsed() < 3 * ANSWER,
        "rm took {:?}",
        since.elapsed()
    );
    pair.all.consul()?.kill9()?;
    let World {
        store_station: station,
        work,
        ..
    } = &pair.all.world;
    let consul = Consul::start(&station.netns, station.ip.into(), work.path())?;
    pair.all.world.store = Store::Consul(consul);
    pair.all.docker(2).cli_ok(&["rm", "-f", "two"])?;
    pair.nothing_left()
}

/// The store that does not answer is no better than none: Docker has its error in time, and what was done
/// all the same is undone.
#[test]
fn store_is_silent() -> Result<()> {
    let mut pair = Pair::new(false)?;
    pair.all.consul()?.signal(Signal::SIGSTOP)?;
    let since = Instant::now();
    let args = ["run", "--rm", "--network", "blue", IMAGE, "true"];
    let said = pair.all.docker(1).cli(&args)?;
    ensure!(since.elapsed() < 2 * ANSWER, "took {:?}", since.elapsed());
    ensure!(
        said.code != 0 && said.stderr.contains("store is doing"),
        "{said:?}"
    );
    pair.reachable()?;
    pair.all.consul()?.signal(Signal::SIGCONT)?;
    until(Duration::from_secs(40), || {
        let status = pair.all.world.host(1).cli_json(&["status"])?;
        ensure!(status["store"]["up"] == true, "{status}");
        Ok(())
    })?;
    let log = pair.all.world.host(1).work().path().join("agent.log");
    pair.remove_all()
        .with_context(|| std::fs::read_to_string(log).unwrap_or_default())
}

/// The machine starts, and the store is not there yet. What Docker asks meanwhile is not forgotten to have
/// been asked in vain.
#[test]
fn host_restarts_before_the_store() -> Result<()> {
    let mut pair = Pair::new(false)?;
    let vni = crate::support::vni_of(pair.all.world.host(1), "blue")?;
    let fixed = pair.all.run(1, "blue", "fixed", &[])?;
    pair.all.docker(1).cli_ok(&["rm", "-f", "fixed"])?;
    pair.all.run(1, "blue", "fixed", &["--ip", &fixed])?;
    let Dockers { dockers, world, .. } = &mut pair.all;
    world.host_mut(1).agent()?.kill9()?;
    dockers[0].power_off(world.host(1))?;
    wipe(world.host(1))?;
    let Store::Consul(consul) = &mut world.store else {
        anyhow::bail!("not Consul");
    };
    consul.daemon().kill9()?;
    super::world::spawn_agent(world, 1, &dockers[0])?;
    dockers[0].spawn()?;
    std::thread::sleep(Duration::from_secs(6));
    let World {
        store_station: station,
        work,
        ..
    } = &*world;
    let consul = Consul::start(&station.netns, station.ip.into(), work.path())?;
    world.store = Store::Consul(consul);
    world
        .host_mut(1)
        .wait_agent_ready(Duration::from_secs(60))?;
    dockers[0].wait_ready(Duration::from_secs(60))?;
    pair.all.docker(1).cli_ok(&["start", "fixed"])?;
    ensure!(address(pair.all.docker(1), "blue", "fixed")? == fixed);
    reaches(pair.all.docker(2), "two", &fixed)?;
    pair.all.docker(1).cli_ok(&["rm", "-f", "fixed"])?;
    // At once, not by comparing later.
    let ip: std::net::Ipv4Addr = fixed.parse()?;
    let key = format!("/{:08x}", u32::from(ip));
    until(CONVERGE, || {
        let taken = held(&pair.all.world, vni)?;
        ensure!(
            !taken.iter().any(|taken| taken.ends_with(&key)),
            "{taken:?}"
        );
        Ok(())
    })?;
    pair.remove_all()
}
