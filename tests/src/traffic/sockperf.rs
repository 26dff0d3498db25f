//! `sockperf`: each single round trip.

use std::{fs, str::FromStr, time::Duration};

use anyhow::{Context as _, Error, Result, ensure};

use super::OnOneCpu;
use crate::{command::output, process::Daemon};

/// Percentiles of round trips.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundTrips {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
}

/// UDP ping-pong with messages of `length` bytes, one at a time.
pub fn round_trips(length: usize, ends: &OnOneCpu<'_>) -> Result<RoundTrips> {
    let OnOneCpu { from, to, .. } = ends;
    let pinned = ["-c", &ends.cpu(), "sockperf"];
    let target = ["-i", &ends.address.to_string(), "-p", "5005"];
    let mut command = to.command("taskset")?;
    command.args(pinned).arg("server").args(target);
    let log = ends.folder.join(format!("sockperf-{}.log", to.name()));
    // An earlier server's log would look like this one being ready.
    fs::write(&log, "").with_context(|| format!("empty {}", log.display()))?;
    let mut server = Daemon::spawn("sockperf server", command, &log)?;
    server.wait_ready(Duration::from_secs(10), || {
        let said = fs::read_to_string(&log).context("read sockperf's log")?;
        ensure!(
            said.contains("to block on socket"),
            "sockperf does not listen yet"
        );
        Ok(())
    })?;
    let mut command = from.command("taskset")?;
    command
        .args(pinned)
        .args(["ping-pong", "--full-rtt"])
        .args(target)
        .args(["-m", &length.to_string(), "-t", &ends.seconds()]);
    output(&mut command)?.parse()
}

impl FromStr for RoundTrips {
    type Err = Error;

    /// Reads what `sockperf ping-pong --full-rtt` says in the end.
    fn from_str(said: &str) -> Result<Self> {
        let percentile = |wanted: &str| -> Result<f64> {
            let value = said
                .lines()
                .filter_map(|line| line.split_once("percentile ")?.1.split_once('='))
                .find_map(|(percent, value)| (percent.trim() == wanted).then_some(value.trim()))
                .with_context(|| format!("no percentile {wanted} in sockperf's report:\n{said}"))?;
            value
                .parse()
                .with_context(|| format!("percentile {wanted} of sockperf: {value}"))
        };
        Ok(Self {
            p50_us: percentile("50.000")?,
            p99_us: percentile("99.000")?,
            p999_us: percentile("99.900")?,
        })
    }
}
