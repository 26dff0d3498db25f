//! From a change on one host to the maps of another.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tests::interrupt;

use crate::interested::Interested;
use crate::population::Population;
use crate::process::Load;
use crate::report::{Limit, Report, Row};
use crate::world::World;

/// How many hosts besides the real one follow the network, and what is wanted then.
pub const INTERESTED: [(usize, &[Limit]); 2] = [
    (19, &[Limit::P50(10.0), Limit::P99(50.0)]),
    (199, &[Limit::P99(150.0)]),
];
/// Between changes: each is a change of its own to all that follow, and none is still under way.
const PAUSE: Duration = Duration::from_millis(250);

pub fn measure(
    world: &World,
    population: &mut Population,
    others: usize,
    targets: &[Limit],
    quick: bool,
    report: &mut Report,
) -> Result<()> {
    let count = if quick { 40 } else { 200 };
    let fdb = world.fdb(0)?;
    let interested = Interested::start(world, others)?;
    let registry = world.registry()?;
    let endpoints = population.claimed(world, count)?;
    thread::sleep(PAUSE);
    let load = Load::start(world.consul_pid)?;
    let (mut seen, mut published) = (Vec::new(), Vec::new());
    for endpoint in endpoints {
        interrupt::check()?;
        let (path, record) = endpoint.clone();
        let registry = registry.clone();
        let (tell, told) = mpsc::channel();
        let started = Instant::now();
        world.simulated.runtime().spawn(async move {
            let done = registry.publish_endpoint(&path, &record).await;
            // Nobody listens after a failure.
            let _ = tell.send((done, Instant::now()));
        });
        let there = fdb.await_one(endpoint.1.mac, true)?;
        let (done, at) = told.recv().context("publishing panicked")?;
        done?;
        seen.push(milliseconds(there - started));
        published.push(milliseconds(at - started));
        population.keep(endpoint);
        thread::sleep(PAUSE);
    }
    let used = load.stop()?;
    interested.require_told(count)?;
    let of = format!("{} interested", others + 1);
    report.add(Row::new("endpoint_to_map_ms", &of, &seen, used).target(targets));
    report.add(Row::new("publish_ms", &of, &published, used).note("part of the above"));
    Ok(())
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
