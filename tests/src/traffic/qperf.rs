//! `qperf`: round trips.

use anyhow::{Context as _, Result};

use super::OnOneCpu;
use crate::{command::output, process::Daemon};

/// TCP round trip of one byte in microseconds.
pub fn tcp_rtt_us(ends: &OnOneCpu<'_>) -> Result<f64> {
    rtt_us("tcp_lat", 1, ends)
}

/// UDP round trip of `length` bytes in microseconds.
pub fn udp_rtt_us(length: usize, ends: &OnOneCpu<'_>) -> Result<f64> {
    rtt_us("udp_lat", length, ends)
}

/// qperf reports the time of one message, which is half a round trip.
fn rtt_us(test: &str, length: usize, ends: &OnOneCpu<'_>) -> Result<f64> {
    let OnOneCpu { from, to, .. } = ends;
    let pinned = ["-c", &ends.cpu(), "qperf"];
    let mut command = to.command("taskset")?;
    command.args(pinned);
    let log = ends.folder.join(format!("qperf-{}.log", to.name()));
    let _server = Daemon::spawn("qperf", command, &log)?;

    let mut command = from.command("taskset")?;
    // -ws: it waits for the server to listen. -uu: plain numbers in fixed units.
    command
        .args(pinned)
        .args(["-ws", "10", "-uu", "-m", &length.to_string()])
        .args(["-t", &ends.seconds(), &ends.address.to_string(), test]);
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
