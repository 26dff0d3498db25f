//! A real Prometheus server, and its checker.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{http, netns::Netns, packages, process::Daemon};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server that scrapes its targets every second.
#[derive(Debug)]
pub struct Prometheus<'a> {
    _daemon: Daemon,
    netns: &'a Netns,
    address: SocketAddr,
}

impl<'a> Prometheus<'a> {
    /// Runs in `netns`, from where it must reach the targets (`host:port`).
    pub fn start(netns: &'a Netns, folder: &Path, targets: &[&str]) -> Result<Self> {
        let program = packages::prometheus()?;
        let config = folder.join("prometheus.yml");
        // YAML takes JSON's lists as they are.
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: overlay\n    \
             static_configs:\n      - targets: {}\n",
            Value::from(targets)
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
        let mut command = netns.command(program)?;
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("prometheus").display()
            ))
            .arg(format!("--web.listen-address={address}"));
        let mut daemon = Daemon::spawn("Prometheus", command, &folder.join("prometheus.log"))?;
        daemon
            .wait_ready(START_TIMEOUT, || {
                http::get(netns, address, "/-/ready").map(drop)
            })
            .context("start Prometheus")?;
        Ok(Self {
            _daemon: daemon,
            netns,
            address,
        })
    }

    /// The value of an expression that has one result, as `sum(overlay_peers)`.
    ///
    /// # Errors
    /// Also if it has no result (yet), or several.
    pub fn query(&self, expression: &str) -> Result<f64> {
        let path = format!("/api/v1/query?query={}", percent_encode(expression));
        let text = http::get(self.netns, self.address, &path)?;
        let answer: Value = serde_json::from_str(&text).context("read Prometheus' answer")?;
        let results = answer["data"]["result"]
            .as_array()
            .context("no result in the answer")?;
        let [result] = results.as_slice() else {
            bail!("`{expression}` has {} results: {text}", results.len());
        };
        let value = result["value"][1]
            .as_str()
            .context("no value in the answer")?;
        value
            .parse()
            .with_context(|| format!("value {value} of `{expression}`"))
    }
}

/// `promtool check metrics`: an error with its complaints, warnings too.
pub fn check_metrics(text: &str) -> Result<()> {
    let mut child = Command::new(packages::promtool()?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start promtool")?;
    let mut input = child.stdin.take().context("promtool's standard input")?;
    input
        .write_all(text.as_bytes())
        .context("give promtool the metrics")?;
    drop(input);
    let output = child.wait_with_output().context("wait for promtool")?;
    if !output.status.success() {
        bail!(
            "promtool check metrics: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn percent_encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
