//! What a change costs the underlay of a host that hears of it.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use tests::interrupt;

use crate::population::Population;
use crate::process::{Load, received};
use crate::report::{Limit, Report, Row};
use crate::world::World;

/// After a change: whatever follows from it is over.
const PAUSE: Duration = Duration::from_millis(200);
const LIMIT: f64 = 16.0 * 1024.0;

pub fn measure(
    world: &World,
    population: &mut Population,
    quick: bool,
    report: &mut Report,
) -> Result<()> {
    let count = if quick { 50 } else { 100 };
    let (fdb, host, registry) = (world.fdb(0)?, world.host(0), world.registry()?);
    let endpoints = population.claimed(world, count)?;
    thread::sleep(Duration::from_secs(2));
    let load = Load::start(world.consul_pid)?;
    let mut bytes = Vec::new();
    let mut before = received(host)?;
    for endpoint in endpoints {
        interrupt::check()?;
        let ((path, record), registry) = (endpoint.clone(), registry.clone());
        world
            .simulated
            .run(async move { Ok(registry.publish_endpoint(&path, &record).await?) })?;
        fdb.await_one(endpoint.1.mac, true)?;
        population.keep(endpoint);
        thread::sleep(PAUSE);
        let now = received(host)?;
        bytes.push((now - before) as f64);
        before = now;
    }
    let used = load.stop()?;
    let of = format!("{} endpoints", population.macs().count());
    let mean = bytes.iter().sum::<f64>() / bytes.len() as f64;
    report.add(
        Row::new("bytes_per_change", of, &bytes, used)
            .target(&[Limit::Mean(LIMIT)])
            .note(format!("{mean:.0} on average")),
    );
    Ok(())
}
