//! What people get wrong, and what the command line says: one clear line, exit code 1 (or 2 for
//! wrong usage), and nothing half-made left behind.

mod corrupt;
mod families;
mod outage;
mod pretend;
mod requests;
mod start;
mod token;
mod twice;
mod usage;

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tests::agent::CliOutput;
use tests::command::line;
use tests::lab::{Host, Station};
use tests::netns::Netns;
use tests::wait::until;
use tests::{http, process};

use crate::support::traces::unchanged;

/// A refusal comes within this time; the store is given a few seconds to answer.
const REFUSAL: Duration = Duration::from_secs(20);

/// `overlay-agent` with arguments that make it end, or else are wrongly taken.
fn ended(mut command: Command) -> Result<CliOutput> {
    let text = line(&command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{text}`"))?;
    let mut child = Killed(child);
    // What it says fits a pipe's buffer.
    let status = until(REFUSAL, || {
        let status = child.0.try_wait().context("look after it")?;
        status.with_context(|| format!("`{text}` still runs"))
    })?;
    let mut said = CliOutput {
        code: status
            .code()
            .with_context(|| format!("`{text}`: {status}"))?,
        stdout: String::new(),
        stderr: String::new(),
    };
    let Child { stdout, stderr, .. } = &mut child.0;
    stdout
        .as_mut()
        .context("stdout")?
        .read_to_string(&mut said.stdout)?;
    stderr
        .as_mut()
        .context("stderr")?
        .read_to_string(&mut said.stderr)?;
    Ok(said)
}

/// Does not outlive the test that it surprises.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// That this is a refusal: the code, nothing on stdout, and on stderr one line (besides the
/// agent's log of what it did) that has all of `says`.
fn is_refusal(said: &CliOutput, code: i32, says: &[&str]) -> Result<()> {
    ensure!(said.code == code, "exit code, wanted {code}: {said:?}");
    ensure!(said.stdout.is_empty(), "not an answer: {said:?}");
    let lines: Vec<_> = said
        .stderr
        .lines()
        .filter(|line| !line.contains(" INFO "))
        .collect();
    let [line] = lines.as_slice() else {
        bail!("one line is wanted: {said:?}");
    };
    ensure!(line.starts_with("error: "), "{line}");
    for part in says {
        ensure!(line.contains(part), "wanted `{part}` in: {line}");
    }
    Ok(())
}

/// A command, the exit code, and what its one line has to have.
type Mistake<'a> = (&'a str, i32, &'a [&'a str]);

/// Runs `overlay-agent` with the words of `args`; `@NAME` stands for the path of that namespace.
fn refused(host: &Host, names: &[(&str, &Netns)], (args, code, says): Mistake) -> Result<()> {
    let words = args.split(' ').map(|word| {
        let Some(name) = word.strip_prefix('@') else {
            return Ok(word.to_owned());
        };
        let known = names.iter().find(|(known, _)| *known == name);
        let (_, netns) = known.with_context(|| format!("no namespace @{name}"))?;
        Ok(netns.path().display().to_string())
    });
    let words = words.collect::<Result<Vec<_>>>()?;
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let said = ended(host.command(&words)?)?;
    is_refusal(&said, code, says).with_context(|| format!("`overlay-agent {args}`"))
}

/// A container's interfaces and their IPv4 addresses (of IPv6 the kernel makes its own).
fn inside(netns: &Netns) -> Result<String> {
    Ok(netns.ip(&["-o", "link"])? + &netns.ip(&["-o", "-4", "addr"])?)
}

/// Every key of the store with its value and the index of its last change.
fn keys(from: &Station, store: SocketAddr) -> Result<String> {
    http::get(&from.netns, store, "/v1/kv/overlay/?recurse")
}

/// Waits for a line of a program's log that has all of these.
fn logged(daemon: &mut process::Daemon, says: &[&str]) -> Result<()> {
    until(REFUSAL, || {
        let log = daemon.log()?;
        let found = log
            .lines()
            .any(|line| says.iter().all(|part| line.contains(part)));
        ensure!(found, "no line with {says:?}:\n{log}");
        Ok(())
    })
}
