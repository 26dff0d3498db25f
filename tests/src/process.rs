//! Long-running programs: started, waited for, stopped, and killed on drop.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::{Pid, SysconfVar, sysconf},
};

use crate::{command, wait::until};

const TAIL_LINES: usize = 40;

/// Set by `cargo xtask test`: a test that ends with an error does not panic, so every log is
/// shown, and the test runner keeps what a passing test printed to itself.
pub const SHOW_LOGS: &str = "OVERLAY_TEST_LOGS";

/// A running program with a log file. Dropping it kills it and everything it started.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `command` in a process group of its own, with output appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open the log {}", log.display()))?;
        let again = file
            .try_clone()
            .context("use the log for standard error too")?;
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("start {name}: `{}`", command::line(&command)))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            ended: None,
        })
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// The program ended, or `timeout` passed: both with the end of its log.
    pub fn wait_ready(
        &mut self,
        timeout: Duration,
        mut ready: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let waited = until(timeout, || match self.poll()? {
            // Not an error yet: `until` would go on trying.
            Some(status) => Ok(Some(status)),
            None => ready().map(|()| None),
        });
        match waited {
            Ok(None) => Ok(()),
            Ok(Some(status)) => bail!("{} ended with {status}\n{}", self.name, self.log_tail()),
            Err(error) => {
                Err(error.context(format!("{} is not ready\n{}", self.name, self.log_tail())))
            }
        }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it ended.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .with_context(|| format!("look after {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// It does not end within `timeout`: it is killed then.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let stopped = self.wait_exit(timeout);
        if stopped.is_err() {
            self.kill9()?;
        }
        stopped
    }

    /// SIGKILL to the program and what it started, and waits for its end.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        if self.ended.is_none() {
            let status = self
                .child
                .wait()
                .with_context(|| format!("wait for {}", self.name))?;
            self.ended = Some(status);
        }
        Ok(())
    }

    /// Waits for the program to end by itself.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        until(timeout, || {
            self.poll()?
                .with_context(|| format!("{} still runs\n{}", self.name, self.log_tail()))
        })
    }

    /// Sends a signal to its process group. Nothing happens if it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.poll()?.is_some() {
            return Ok(());
        }
        let group = i32::try_from(self.child.id()).context("process id out of range")?;
        match killpg(Pid::from_raw(group), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal} to {}", self.name)),
        }
    }

    /// All it wrote so far.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    fn log_tail(&self) -> String {
        let text = match self.log() {
            Ok(text) => text,
            Err(error) => return format!("{error:#}"),
        };
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!(
            "--- {}: last lines of its log\n{}\n---",
            self.name,
            tail.join("\n")
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.kill9() {
            eprintln!("{} not killed: {error:#}", self.name);
        }
        if thread::panicking() || std::env::var_os(SHOW_LOGS).is_some() {
            eprintln!("{}", self.log_tail());
        }
    }
}

/// Processor time in seconds, of the process and not of its children.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name in brackets may hold anything.
    let (_, fields) = text.rsplit_once(')').context("no name in stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().context("stat is short")?.parse()?) };
    let ticks = ticks()? + ticks()?;
    let rate = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(ticks / rate as f64)
}
