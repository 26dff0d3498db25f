//! `qperf`: round trips.

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use crate::{command::output, netns::Netns, process::Daemon};

/// TCP round trip of one byte in microseconds, both ends on the CPU `cpu`.
///
/// On one CPU the figure is the work done per round trip and not the time another CPU takes to
/// wake up. qperf reports the time of one message, which is half a round trip.
pub fn tcp_rtt_us(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    duration: Duration,
    cpu: usize,
    folder: &Path,
) -> Result<f64> {
    let cpu = cpu.to_string();
    let mut command = to.command("taskset")?;
    command.args(["-c", &cpu, "qperf"]);
    let log = folder.join(format!("qperf-{}.log", to.name()));
    let _server = Daemon::spawn("qperf", command, &log)?;

    let mut command = from.command("taskset")?;
    // -ws: it waits for the server to listen. -uu: plain numbers in fixed units.
    command
        .args(["-c", &cpu, "qperf", "-ws", "10", "-uu", "-m", "1"])
        .args(["-t", &duration.as_secs().max(1).to_string()])
        .args([&address.to_string(), "tcp_lat"]);
    let report = output(&mut command)?;
    let one_way_ns = parse(&report).with_context(|| format!("read qperf's report:\n{report}"))?;
    Ok(one_way_ns * 2.0 / 1000.0)
}

fn parse(report: &str) -> Result<f64> {
    let value = report
        .lines()
        .find_map(|line| line.trim().strip_prefix("latency"))
        .context("no latency")?
        .trim_start_matches([' ', '='])
        .strip_suffix(" ns")
        .context("latency is not in ns")?;
    value
        .trim()
        .parse()
        .with_context(|| format!("latency {value}"))
}
