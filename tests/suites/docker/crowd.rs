//! Many containers at once on one host: the driver's calls queue, and are answered in time all the same.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::relay::Relay;
use super::world::{Dockers, reaches};
use crate::support::snapshot::Snapshot;

const CROWD: usize = 50;

/// The drivers refuse what has taken longer.
const DEADLINE: Duration = Duration::from_millis(4500);

#[test]
#[ignore = "for its numbers: `--ignored --nocapture docker::crowd`, and nothing beside it"]
fn starts_and_ends_together() -> Result<()> {
    let mut all = Dockers::new()?;
    all.create(1, "blue", &[])?;
    all.everywhere("blue")?;
    let before = Snapshot::of(&all.world)?;
    let relay = Relay::between(&mut all)?;
    let names: Vec<_> = (0..CROWD).map(|k| format!("c{k}")).collect();
    let since = Instant::now();
    let ips = thread::scope(|scope| {
        let started = names.iter().map(|name| {
            let all = &all;
            scope.spawn(move || all.run(1, "blue", name, &[]))
        });
        // All are to be started before one is waited for.
        let started: Vec<_> = started.collect();
        let ended = started.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|one| one.map_err(|_| anyhow!("panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    eprintln!("started within {:?}", since.elapsed());
    let last = all.run(2, "blue", "last", &[])?;
    for (name, ip) in names.iter().zip(&ips) {
        ensure!(ips.iter().filter(|other| *other == ip).count() == 1, "{ip}");
        if name.ends_with('7') {
            reaches(all.docker(1), name, &last)?;
        }
    }
    let since = Instant::now();
    thread::scope(|scope| {
        let ended: Vec<_> = names
            .iter()
            .map(|name| {
                let docker = all.docker(1);
                scope.spawn(move || docker.cli_ok(&["rm", "-f", name]))
            })
            .collect();
        ended
            .into_iter()
            .try_for_each(|one| one.join().map_err(|_| anyhow!("panicked"))?.map(drop))
    })?;
    eprintln!("ended within {:?}", since.elapsed());
    let longest = tell(relay.take_calls());
    ensure!(longest < DEADLINE, "a call took {longest:?}");
    all.docker(2).cli_ok(&["rm", "-f", "last"])?;
    before.comes_back(&all.world)
}

/// Says how long each kind of call has taken; the longest of all.
fn tell(calls: Vec<(String, Duration)>) -> Duration {
    let longest = calls.iter().map(|(_, time)| *time).max();
    let mut took: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for (call, time) in calls {
        took.entry(call).or_default().push(time);
    }
    for (call, mut times) in took {
        times.sort_unstable();
        let half = times.len() / 2;
        eprintln!(
            "{call}: {} calls, median {:?}, longest {:?}",
            times.len(),
            times[half],
            times[times.len() - 1]
        );
    }
    longest.unwrap_or_default()
}
