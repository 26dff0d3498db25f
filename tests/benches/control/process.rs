//! What processes and devices have used.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use tests::lab::{Host, UNDERLAY};
use tests::process::cpu_seconds;

/// Resident memory in megabytes (10^6).
pub fn resident_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("no VmRSS")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Bytes that a host's underlay device has received.
pub fn received(host: &Host) -> Result<u64> {
    let netns = host.netns();
    let text = netns.ip(&["-json", "-stats", "link", "show", "dev", UNDERLAY])?;
    let links: serde_json::Value = serde_json::from_str(&text).context("read `ip -json link`")?;
    let bytes = links[0]["stats64"]["rx"]["bytes"].as_u64();
    bytes.with_context(|| format!("no counters of {UNDERLAY}: {text}"))
}

/// Processor time that a process takes from now on.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pid: u32,
    before: f64,
    started: Instant,
}

impl Load {
    pub fn start(pid: u32) -> Result<Self> {
        Ok(Self {
            pid,
            before: cpu_seconds(pid)?,
            started: Instant::now(),
        })
    }

    /// Seconds of it, and of the clock.
    pub fn stop(&self) -> Result<Used> {
        Ok(Used {
            cpu: cpu_seconds(self.pid)? - self.before,
            clock: self.started.elapsed().as_secs_f64(),
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Used {
    pub cpu: f64,
    pub clock: f64,
}
