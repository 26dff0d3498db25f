//! An agent that starts into a large network, and what that takes.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use overlay_common::maps::{FDB, NEIGHBORS};
use tests::agent::START_TIMEOUT;
use tests::interrupt;

use crate::fdb::{Fdb, memory};
use crate::population::Population;
use crate::process::{Load, resident_mb};
use crate::report::{Limit, Report, Row};
use crate::world::World;

/// After a start: nothing is under way any more.
const SETTLED: Duration = Duration::from_secs(3);

/// Of the two tables that have an entry for each endpoint, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory(u64);

impl Memory {
    pub fn of(world: &World) -> Result<Self> {
        let paths = world.paths(0);
        Ok(Self(memory(&paths, FDB)? + memory(&paths, NEIGHBORS)?))
    }
}

/// The agent does not run. Its host has an endpoint, whose device is there, so that it follows the network.
pub fn measure(
    world: &mut World,
    population: &Population,
    empty: Memory,
    quick: bool,
    report: &mut Report,
) -> Result<()> {
    let rounds = if quick { 2 } else { 5 };
    let (mut seconds, mut resident, mut later, mut cpu) = (vec![], vec![], vec![], vec![]);
    let load = Load::start(world.consul_pid)?;
    for _ in 0..rounds {
        interrupt::check()?;
        if let Ok(agent) = world.lab.hosts[0].agent() {
            agent.kill9()?;
        }
        forget(world)?;
        let (took, pid) = start(world, population)?;
        seconds.push(took);
        resident.push(resident_mb(pid)?);
        cpu.push(tests::process::cpu_seconds(pid)?);
        world.lab.hosts[0].wait_agent_ready(START_TIMEOUT)?;
        thread::sleep(SETTLED);
        later.push(resident_mb(pid)?);
    }
    let used = load.stop()?;
    let count = population.macs().count();
    let of = format!("{count} endpoints");
    report.add(
        Row::new("cold_start_s", &of, &seconds, used)
            .target(&[Limit::Each(3.0)])
            .note(format!("agent {} s of CPU", list(&cpu))),
    );
    report.add(
        Row::new("resident_mb", &of, &resident, used)
            .target(&[Limit::Each(120.0)])
            .note(format!("{} a moment later", list(&later))),
    );
    let bytes = (Memory::of(world)?.0 - empty.0) as f64 / count as f64;
    let bytes = Row::new("map_bytes_per_endpoint", &of, &[bytes], used);
    report.add(bytes.target(&[Limit::Each(256.0)]));
    Ok(())
}

fn list(values: &[f64]) -> String {
    let values: Vec<_> = values.iter().map(|value| format!("{value:.1}")).collect();
    values.join(", ")
}

/// What an earlier run has left, but for who the host is: another host had no endpoint in the store.
fn forget(world: &World) -> Result<()> {
    let host = world.host(0);
    clear(host.pins(), None)?;
    clear(&host.work().folder("state")?, Some("node-id"))
}

fn clear(folder: &Path, but: Option<&str>) -> Result<()> {
    let failed = || format!("empty {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if but.is_some_and(|but| entry.file_name() == but) {
            continue;
        }
        let removed = if entry.file_type().with_context(failed)?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        removed.with_context(failed)?;
    }
    Ok(())
}

/// Seconds from the start of the process until it has written the last endpoint, and its id.
fn start(world: &mut World, population: &Population) -> Result<(f64, u32)> {
    // The agent writes them in this order.
    let last = population.macs().max().context("no endpoints")?;
    let store = world.consul.url();
    let started = Instant::now();
    world.lab.hosts[0].spawn_agent(&store, &[])?;
    let fdb = open(world, started)?;
    let seen = fdb.await_one(last, true)?;
    // Usually nothing is missing any more.
    let done = fdb.wait_for(population)?.unwrap_or(seen);
    Ok(((done - started).as_secs_f64(), world.agent_pid(0)?))
}

/// The table is there a moment after the start.
fn open(world: &World, started: Instant) -> Result<Fdb> {
    loop {
        interrupt::check()?;
        match world.fdb(0) {
            Ok(fdb) => return Ok(fdb),
            Err(error) if started.elapsed() > START_TIMEOUT => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
