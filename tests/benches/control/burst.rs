//! Many changes every second for a while.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use overlay_agent::store::Registry;
use overlay_common::net::MacAddr;
use tests::interrupt;

use crate::fdb::Fdb;
use crate::population::{Endpoint, Population};
use crate::process::{Load, resident_mb};
use crate::report::{Limit, Report, Row};
use crate::spread::milliseconds;
use crate::world::World;

const WRITERS: usize = 20;
const PER_SECOND: usize = 1000;
const SECONDS: usize = 10;
/// Between looks at what has not arrived yet.
const TICK: Duration = Duration::from_millis(1);
/// For the last to arrive after the last was written.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A change that was begun.
struct Begun {
    mac: MacAddr,
    there: bool,
    at: Instant,
}

/// Every other change is a new endpoint, the others are old ones that go.
#[derive(Clone)]
enum Change {
    Publish(Endpoint),
    Withdraw(Endpoint),
}

pub fn measure(world: &mut World, population: &mut Population, report: &mut Report) -> Result<()> {
    let agent = world.agent_pid(0)?;
    let fdb = world.fdb(0)?;
    let changes = PER_SECOND * SECONDS;
    let work = prepare(world, population, changes)?;
    let before = resident_mb(agent)?;
    let (load, own) = (Load::start(world.consul_pid)?, Load::start(agent)?);
    let (begin, begun) = channel();
    let (end, ended) = channel();
    let start = Instant::now();
    for (number, work) in work.into_iter().enumerate() {
        let (registry, begin, end) = (world.registry()?, begin.clone(), end.clone());
        let offset = Duration::from_secs(1) * number as u32 / PER_SECOND as u32;
        world.simulated.runtime().spawn(async move {
            // Nobody listens after a failure.
            let _ = end.send(write(&registry, work, start + offset, &begin).await);
        });
    }
    drop((begin, end));
    let (lags, memory) = follow(&fdb, agent, &begun)?;
    let (used, own) = (load.stop()?, own.stop()?);
    let mut took: f64 = 0.0;
    for written in ended {
        took = took.max((written? - start).as_secs_f64());
    }
    if lags.len() != changes {
        bail!("{} changes were seen, not {changes}", lags.len());
    }
    let rate = changes as f64 / took;
    report.add(
        Row::new("burst_lag_ms", "", &lags, used)
            .target(&[Limit::P99(250.0)])
            .note(format!(
                "{rate:.0} changes/s written, agent {:.1} s of CPU",
                own.cpu
            )),
    );
    thread::sleep(Duration::from_secs(2));
    let after = resident_mb(agent)?;
    report.add(
        Row::new("burst_resident_mb", "every second", &memory, used).note(format!(
            "{before:.1} before, {after:.1} after, as many endpoints"
        )),
    );
    Ok(())
}

/// What each writer does. It acts for several hosts, and nobody else for them.
fn prepare(world: &World, population: &mut Population, changes: usize) -> Result<Vec<Vec<Change>>> {
    let hosts = population.hosts.len();
    let new = population.claimed(world, changes / 2)?;
    let mut work = vec![Vec::new(); WRITERS];
    for (i, endpoint) in new.into_iter().enumerate() {
        let host = i % hosts;
        let old = population.hosts[host].endpoints.remove(0);
        work[host % WRITERS].push(Change::Publish(endpoint.clone()));
        work[host % WRITERS].push(Change::Withdraw(old));
        population.keep(endpoint);
    }
    Ok(work)
}

/// Evenly spread, as long as the store keeps up. When the last was written.
async fn write(
    registry: &Registry,
    work: Vec<Change>,
    mut due: Instant,
    begin: &Sender<Begun>,
) -> Result<Instant> {
    for change in work {
        tokio::time::sleep_until(due.into()).await;
        due += Duration::from_secs(1) * WRITERS as u32 / PER_SECOND as u32;
        let (there, (path, record)) = match &change {
            Change::Publish(endpoint) => (true, endpoint),
            Change::Withdraw(endpoint) => (false, endpoint),
        };
        begin.send(Begun {
            mac: record.mac,
            there,
            at: Instant::now(),
        })?;
        if there {
            registry.publish_endpoint(path, record).await?;
        } else {
            registry.withdraw_endpoint(path).await?;
        }
    }
    Ok(Instant::now())
}

/// Waits for all changes. Their lags in ms, and the agent's memory every second.
fn follow(fdb: &Fdb, agent: u32, begun: &Receiver<Begun>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut waiting, mut lags, mut memory): (Vec<Begun>, _, _) = (vec![], vec![], vec![]);
    let (mut last, mut next) = (Instant::now(), Instant::now());
    loop {
        interrupt::check()?;
        let all = loop {
            match begun.try_recv() {
                Ok(begun) => waiting.push(begun),
                Err(error) => break error == TryRecvError::Disconnected,
            }
        };
        let mut left = Vec::new();
        for one in waiting.drain(..) {
            if fdb.has(one.mac)? == one.there {
                last = Instant::now();
                lags.push(milliseconds(last - one.at));
            } else {
                left.push(one);
            }
        }
        waiting = left;
        if all && waiting.is_empty() {
            return Ok((lags, memory));
        }
        if last.elapsed() > TIMEOUT {
            bail!("{} changes do not arrive", waiting.len());
        }
        if next <= Instant::now() {
            memory.push(resident_mb(agent)?);
            next += Duration::from_secs(1);
        }
        thread::sleep(TICK);
    }
}
