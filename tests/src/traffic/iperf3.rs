//! `iperf3`: throughput of TCP.

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{command::capture, netns::Netns, process::Daemon};

/// Runs `iperf3 -c` with the given options; its JSON.
///
/// # Errors
/// iperf3 fails; the message is the one in its JSON.
pub fn run(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    options: &[&str],
    folder: &Path,
) -> Result<Value> {
    let mut command = to.command("iperf3")?;
    command.args(["-s", "--forceflush"]);
    let log = folder.join(format!("iperf3-{}.log", to.name()));
    // An earlier server's log would look like this one being ready.
    let earlier = std::fs::metadata(&log).map_or(0, |found| found.len());
    let mut server = Daemon::spawn("iperf3 -s", command, &log)?;
    server.wait_ready(Duration::from_secs(10), || {
        let said = std::fs::read(&log).context("read iperf3's log")?;
        let since = usize::try_from(earlier)
            .unwrap_or(usize::MAX)
            .min(said.len());
        if !String::from_utf8_lossy(&said[since..]).contains("Server listening") {
            bail!("iperf3 does not listen yet");
        }
        Ok(())
    })?;
    let mut command = from.command("iperf3")?;
    command
        .args(["-c", &address.to_string(), "-J"])
        .args(options);
    let output = capture(&mut command)?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("read the report of iperf3: {}", output.status))?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3 to {address} from {}: {error}", from.name());
    }
    Ok(report)
}

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Received {
    pub gbit: f64,
    pub gbps: f64,
}

/// TCP streams beside each other for `duration`.
pub fn tcp(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    streams: u32,
    duration: Duration,
    folder: &Path,
) -> Result<Received> {
    let seconds = duration.as_secs().max(1).to_string();
    let options = ["-t", &seconds, "-P", &streams.to_string()];
    let report = run(from, to, address, &options, folder)?;
    let received = &report["end"]["sum_received"];
    let number = |name: &str| {
        let number = received[name].as_f64();
        number.with_context(|| format!("iperf3's report has no received {name}"))
    };
    Ok(Received {
        gbit: number("bytes")? * 8.0 / 1e9,
        gbps: number("bits_per_second")? / 1e9,
    })
}
