//! What an agent asks of the store while nothing happens.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::interrupt;

use crate::process::Load;
use crate::report::{Limit, Report, Row};
use crate::world::World;

/// After an agent's start and its first endpoint: what these cause is over.
const SETTLED: Duration = Duration::from_secs(10);

/// Counts requests in Consul's log, which has a line for each that has ended.
pub fn measure(quick: bool, report: &mut Report) -> Result<()> {
    let mut world = World::with_settings(1, json!({ "log_level": "debug" }))?;
    world.start_agent(0)?;
    sleep(SETTLED)?;
    let before = requests(&mut world)?.len();
    // One blocking query takes 60 s and a bit.
    let minutes = if quick { 1.5 } else { 3.0 };
    let load = Load::start(world.consul_pid)?;
    sleep(Duration::from_secs_f64(60.0 * minutes))?;
    let used = load.stop()?;
    let all = requests(&mut world)?;
    let all = &all[before..];
    ensure!(!all.is_empty(), "Consul's log has no requests");
    let others: Vec<_> = all.iter().filter(|line| !is_expected(line)).collect();
    let per_minute = |count: usize| count as f64 / minutes;
    let blocking = all.iter().filter(|line| line.contains("index=")).count();
    report.add(
        Row::new(
            "idle_requests_per_min",
            "all",
            &[per_minute(all.len())],
            used,
        )
        .note(format!(
            "{:.1} of them blocking queries",
            per_minute(blocking)
        )),
    );
    let note = others.first().map_or_else(String::new, ToString::to_string);
    report.add(
        Row::new(
            "idle_requests_per_min",
            "unexpected",
            &[per_minute(others.len())],
            used,
        )
        .target(&[Limit::Each(0.0)])
        .note(note),
    );
    Ok(())
}

/// A blocking query, or the renewal of the session.
fn is_expected(request: &str) -> bool {
    let blocking = request.contains("method=GET") && request.contains("index=");
    blocking || request.contains("/v1/session/renew/")
}

/// The agent's: nobody else is on its host.
fn requests(world: &mut World) -> Result<Vec<String>> {
    let from = format!("from={}:", world.host(0).ip());
    let log = world.consul.daemon().log()?;
    let lines = log.lines();
    let requests = lines.filter(|line| line.contains("url=") && line.contains(&from));
    Ok(requests.map(str::to_owned).collect())
}

fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(200).min(duration));
    }
    Ok(())
}
