//! Many changes while a host cannot hear of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use overlay_common::net::MacAddr;
use tests::interrupt;
use tests::wait::until;

use crate::fdb::{Fdb, TICK};
use crate::population::Population;
use crate::process::Load;
use crate::report::{Limit, Report, Row};
use crate::world::World;

const CHANGES: usize = 10_000;
/// Unchanged entries that are looked at again and again.
const STEADY: usize = 64;
/// The agent has heard of everything that happened before.
const QUIET: Duration = Duration::from_secs(1);
const LIMIT: f64 = 2.0;

/// Why the host hears nothing.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Its cable is out of the switch, while the changes are made.
    Link,
    /// The same for as long as this at least: TCP then tries again less and less often.
    LongLink(Duration),
    /// The agent is stopped.
    Stopped,
}

impl Outage {
    const ALL: [Self; 3] = [
        Self::Link,
        Self::LongLink(Duration::from_secs(15)),
        Self::Stopped,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Link => "link down",
            Self::LongLink(_) => "link down long",
            Self::Stopped => "agent stopped",
        }
    }

    fn least(self) -> Duration {
        match self {
            Self::LongLink(least) => least,
            Self::Link | Self::Stopped => Duration::ZERO,
        }
    }

    fn set(self, world: &mut World, out: bool) -> Result<()> {
        match self {
            Self::Link | Self::LongLink(_) => {
                let switch = world.lab.switch().context("no switch")?;
                let state = if out { "down" } else { "up" };
                switch.ip(&["link", "set", "p1", state]).map(drop)
            }
            Self::Stopped => {
                let signal = if out {
                    Signal::SIGSTOP
                } else {
                    Signal::SIGCONT
                };
                world.lab.hosts[0].agent()?.signal(signal)
            }
        }
    }
}

pub fn measure(
    world: &mut World,
    population: &mut Population,
    quick: bool,
    report: &mut Report,
) -> Result<()> {
    let rounds = if quick { 1 } else { 5 };
    let before = population.macs().count();
    for outage in Outage::ALL {
        let load = Load::start(world.consul_pid)?;
        let (mut seconds, mut absent, mut looks, mut outages) = (vec![], 0, 0, vec![]);
        for _ in 0..rounds {
            let healed = one(world, population, outage)?;
            seconds.push(healed.seconds);
            outages.push(healed.outage);
            absent += healed.absent;
            looks += healed.looks;
        }
        let used = load.stop()?;
        let of = format!("{}, {before}", outage.name());
        let outages: Vec<_> = outages.iter().map(|s| format!("{s:.1}")).collect();
        report.add(
            Row::new("heal_s", &of, &seconds, used)
                .target(&[Limit::Each(LIMIT)])
                .note(format!("out for {} s", outages.join(", "))),
        );
        report.add(
            Row::new("heal_flaps", &of, &[f64::from(absent)], used)
                .target(&[Limit::Each(0.0)])
                .note(format!(
                    "{looks} looks at each of {STEADY} unchanged entries"
                )),
        );
    }
    Ok(())
}

struct Healed {
    seconds: f64,
    outage: f64,
    /// How often an unchanged entry was not there.
    absent: u32,
    looks: u64,
}

fn one(world: &mut World, population: &mut Population, outage: Outage) -> Result<Healed> {
    interrupt::check()?;
    thread::sleep(QUIET);
    let fdb = world.fdb(0)?;
    let others = fdb.len()? - population.macs().count();
    // The last of a host is never removed.
    let last = population
        .hosts
        .iter()
        .filter_map(|host| host.endpoints.last());
    let steady: Vec<_> = last.map(|(_, record)| record.mac).take(STEADY).collect();
    let stop = AtomicBool::new(false);
    let looking = world.fdb(0)?;
    thread::scope(|scope| {
        let looker = scope.spawn(|| look(&looking, &steady, &stop));
        let healed = change(world, population, outage, &fdb);
        stop.store(true, Ordering::Relaxed);
        let looked = looker.join().map_err(|_| anyhow!("the looker panicked"))?;
        let ((seconds, outage), (absent, looks)) = (healed?, looked?);
        until(Duration::from_secs(5), || {
            let (is, wanted) = (fdb.len()?, population.macs().count() + others);
            ensure!(is == wanted, "{is} entries, not {wanted}");
            Ok(())
        })?;
        Ok(Healed {
            seconds,
            outage,
            absent,
            looks,
        })
    })
}

/// Seconds until the table is right, and how long the host has heard nothing.
fn change(
    world: &mut World,
    population: &mut Population,
    outage: Outage,
    fdb: &Fdb,
) -> Result<(f64, f64)> {
    outage.set(world, true)?;
    let out = Instant::now();
    let churn = population.churn(world, CHANGES);
    while out.elapsed() < outage.least() && interrupt::check().is_ok() {
        thread::sleep(QUIET / 10);
    }
    outage.set(world, false)?;
    let back = Instant::now();
    let churn = churn?;
    let done = fdb.await_all(churn.added, churn.removed)?;
    let done = done.context("the host has heard of everything before")?;
    Ok(((done - back).as_secs_f64(), (back - out).as_secs_f64()))
}

fn look(fdb: &Fdb, steady: &[MacAddr], stop: &AtomicBool) -> Result<(u32, u64)> {
    let (mut absent, mut looks) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        for mac in steady {
            absent += u32::from(!fdb.has(*mac)?);
        }
        looks += 1;
        // Else it took one of the processors from what it looks at.
        thread::sleep(TICK);
    }
    Ok((absent, looks))
}
