//! Daemon, agent or both die at any moment: nothing is lost, nothing stays.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tests::consul::Consul;
use tests::docker::{IMAGE, Options};
use tests::lab::Host;
use tests::wait::until;

use super::world::{Dockers, address, idle, inspect, reaches, start_agent};
use crate::support::{CONVERGE, Store, World};

/// Longest that a call of a driver takes, with the command around it.
const ANSWER: Duration = Duration::from_secs(7);

struct Pair {
    all: Dockers,
    one: String,
    two: String,
}

impl Pair {
    fn new(live_restore: bool) -> Result<Self> {
        let all = Dockers::with(&Options {
            live_restore,
            ..Options::default()
        })?;
        all.create(1, "blue", &["--subnet", "10.70.0.0/16"])?;
        all.everywhere("blue")?;
        let one = all.run(1, "blue", "one", &[])?;
        let two = all.run(2, "blue", "two", &[])?;
        Ok(Self { all, one, two })
    }

    fn reachable(&self) -> Result<()> {
        reaches(self.all.docker(1), "one", &self.two)?;
        reaches(self.all.docker(2), "two", &self.one)
    }

    fn kill_agent(&mut self) -> Result<()> {
        self.all.world.host_mut(1).agent()?.kill9()
    }

    fn start_agent(&mut self) -> Result<()> {
        let Dockers { dockers, world, .. } = &mut self.all;
        start_agent(world, 1, &dockers[0])
    }

    fn remove_all(&self) -> Result<()> {
        for (n, name) in [(1, "one"), (2, "two")] {
            self.all.docker(n).cli_ok(&["rm", "-f", name])?;
        }
        idle(&self.all, "blue")
    }
}

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

impl Pair {
    /// By the other host's daemon alone.
    fn reachable_while_dead(&self) -> Result<()> {
        reaches(self.all.docker(2), "two", &self.one)
    }
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

/// Killed at six moments of a start, from before its first call to after its last.
#[test]
fn daemon_killed_while_a_container_starts() -> Result<()> {
    let mut pair = Pair::new(true)?;
    for step in 0..6 {
        let pid = pair.all.dockers[0].dockerd()?.pid();
        killed_while_starting(&pair, step, pid)?;
        pair.all.dockers[0].kill9()?;
        pair.all.dockers[0].restart()?;
        pair.all.docker(1).cli(&["rm", "-f", "three"])?;
    }
    pair.reachable()?;
    pair.remove_all()
}

#[test]
fn agent_killed_while_a_container_starts() -> Result<()> {
    let mut pair = Pair::new(true)?;
    for step in 0..6 {
        let pid = pair.all.world.host_mut(1).agent()?.pid();
        killed_while_starting(&pair, step, pid)?;
        pair.kill_agent()?;
        pair.start_agent()?;
        pair.all.docker(1).cli(&["rm", "-f", "three"])?;
    }
    pair.reachable()?;
    pair.remove_all()
}

fn killed_while_starting(pair: &Pair, step: u64, pid: u32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(pid.try_into()?);
    std::thread::scope(|scope| {
        let docker = pair.all.docker(1);
        let args = [
            "run",
            "-d",
            "--network",
            "blue",
            "--name",
            "three",
            IMAGE,
            "sleep",
            "1000",
        ];
        let started = scope.spawn(move || docker.cli(&args));
        std::thread::sleep(Duration::from_millis(100 * step));
        nix::sys::signal::kill(pid, Signal::SIGKILL)?;
        started
            .join()
            .map_err(|_| anyhow::anyhow!("panicked"))?
            .map(drop)
    })
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
    let Store::Consul(consul) = &mut pair.all.world.store else {
        anyhow::bail!("not Consul");
    };
    consul.daemon().kill9()?;
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
    let Store::Consul(consul) = &mut pair.all.world.store else {
        anyhow::bail!("not Consul");
    };
    consul.daemon().kill9()?;
    let World {
        store_station: station,
        work,
        ..
    } = &pair.all.world;
    let consul = Consul::start(&station.netns, station.ip.into(), work.path())?;
    pair.all.world.store = Store::Consul(consul);
    pair.all.docker(2).cli_ok(&["rm", "-f", "two"])?;
    idle(&pair.all, "blue")
}

/// The store that does not answer is no better than none: Docker has its error in time, and what was done
/// all the same is undone.
#[test]
fn store_is_silent() -> Result<()> {
    let mut pair = Pair::new(false)?;
    let Store::Consul(consul) = &mut pair.all.world.store else {
        anyhow::bail!("not Consul");
    };
    consul.daemon().signal(Signal::SIGSTOP)?;
    let since = Instant::now();
    let args = ["run", "--rm", "--network", "blue", IMAGE, "true"];
    let said = pair.all.docker(1).cli(&args)?;
    ensure!(since.elapsed() < 2 * ANSWER, "took {:?}", since.elapsed());
    ensure!(
        said.code != 0 && said.stderr.contains("store is doing"),
        "{said:?}"
    );
    pair.reachable()?;
    let Store::Consul(consul) = &mut pair.all.world.store else {
        anyhow::bail!("not Consul");
    };
    consul.daemon().signal(Signal::SIGCONT)?;
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
        let taken = super::store_keys(&pair.all, &format!("addresses/{vni:06x}/"))?;
        ensure!(
            !taken.iter().any(|taken| taken.ends_with(&key)),
            "{taken:?}"
        );
        Ok(())
    })?;
    pair.remove_all()
}
