//! `ping`, once or for as long as something else happens.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow};
use nix::sys::signal::Signal;

use crate::{command::capture, netns::Netns, process::Daemon};

/// The summary of a ping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    pub sent: u32,
    pub received: u32,
    /// Average round trip in milliseconds; none if nothing came back.
    pub average_ms: Option<f64>,
}

impl Ping {
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.received)
    }
}

/// Sends `count` echo requests, 20 a second, and waits a second for the last answer.
///
/// # Errors
/// ping itself fails. Lost packets are no error: see [`Ping::lost`].
pub fn ping(from: &Netns, to: IpAddr, count: u32) -> Result<Ping> {
    ping_with(from, to, count, &[])
}

/// The same with more options of ping, as `-s 1400 -M do`.
pub fn ping_with(from: &Netns, to: IpAddr, count: u32, options: &[&str]) -> Result<Ping> {
    let mut command = from.command("ping")?;
    command.args(["-n", "-i", "0.05", "-W", "1", "-c", &count.to_string()]);
    command.args(options).arg(to.to_string());
    let output = capture(&mut command)?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.parse().with_context(|| {
        format!(
            "ping {to} from {}: {}",
            from.name(),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

impl FromStr for Ping {
    type Err = Error;

    /// Reads the summary that iputils' ping ends with.
    fn from_str(said: &str) -> Result<Self> {
        let summary = said
            .lines()
            .find(|line| line.contains(" packets transmitted, "))
            .ok_or_else(|| anyhow!("no summary in ping's output:\n{said}"))?;
        let number_before = |word: &str| -> Result<u32> {
            let before = summary
                .split(word)
                .next()
                .and_then(|text| text.rsplit(' ').next());
            let number = before.with_context(|| format!("no number before `{word}`"))?;
            number
                .parse()
                .with_context(|| format!("`{number}` before `{word}` in `{summary}`"))
        };
        let average_ms = said
            .lines()
            .find_map(|line| line.split_once(" = ")?.1.split('/').nth(1)?.parse().ok());
        Ok(Self {
            sent: number_before(" packets transmitted")?,
            received: number_before(" received")?,
            average_ms,
        })
    }
}

/// A ping that runs until it is asked for its summary.
#[derive(Debug)]
pub struct Pinging {
    daemon: Daemon,
    log: PathBuf,
}

impl Pinging {
    /// One packet per `interval`. Its log goes into `folder`.
    pub fn start(from: &Netns, to: IpAddr, interval: Duration, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("ping-{to}-from-{}.log", from.name()));
        let mut command = from.command("ping")?;
        command
            .args(["-n", "-i", &interval.as_secs_f64().to_string()])
            .arg(to.to_string());
        let daemon = Daemon::spawn(&format!("ping {to}"), command, &log)?;
        Ok(Self { daemon, log })
    }

    /// Answers so far.
    pub fn answers(&self) -> Result<usize> {
        Ok(self
            .daemon
            .log()?
            .lines()
            .filter(|line| line.contains(" bytes from "))
            .count())
    }

    /// Ends it. The packet in flight at that moment is not counted as lost: ping waits for it.
    pub fn stop(mut self) -> Result<Ping> {
        self.daemon.signal(Signal::SIGINT)?;
        self.daemon.wait_exit(Duration::from_secs(5))?;
        let said = self.daemon.log()?;
        said.parse()
            .with_context(|| format!("read {}", self.log.display()))
    }
}
