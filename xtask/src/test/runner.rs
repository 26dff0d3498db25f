//! Running a test program: its output shown and counted, its leftovers removed.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    panic::resume_unwind,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tests::{interrupt, sweep::sweep};

use super::tally::Tally;
use crate::shell::shown;

/// How often to look for Ctrl-C.
const TICK: Duration = Duration::from_millis(100);

/// How long the tests may take to end after Ctrl-C.
const FAREWELL: Duration = Duration::from_secs(5);

/// Streams the output and counts in it. A program that ends badly without having said that a
/// test failed (it crashed, or did not compile) counts as one failure.
///
/// # Errors
/// The program cannot be started; or Ctrl-C came: the program is ended then, and what its tests
/// had made is removed.
pub(super) fn run(command: &mut Command, tally: &mut Tally) -> Result<()> {
    run_shown(command, tally, Pieces::Any)
}

/// The same for several at a time, whose lines mingle.
pub(super) fn run_together(mut commands: Vec<Command>, tally: &mut Tally) -> Result<()> {
    if let [command] = &mut commands[..] {
        return run(command, tally);
    }
    let results: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = commands
            .iter_mut()
            .map(|command| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    run_shown(command, &mut tally, Pieces::Lines).map(|()| tally)
                })
            })
            .collect();
        runs.into_iter().map(ScopedJoinHandle::join).collect()
    });
    for result in results {
        let counted = result.unwrap_or_else(|panic| resume_unwind(panic))?;
        tally.add(&counted);
    }
    Ok(())
}

/// What is shown at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    /// Whatever comes: a test's name shows while it runs.
    Any,
    /// Whole lines, between which others may come.
    Lines,
}

fn run_shown(command: &mut Command, tally: &mut Tally, pieces: Pieces) -> Result<()> {
    let line = shown(command);
    eprintln!("$ {line}");
    // A group of its own gets Ctrl-C from us alone, so that we see its end.
    let mut child = command
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("start `{line}`"))?;
    let group = i32::try_from(child.id()).context("process id out of range")?;
    let group = Pid::from_raw(group);
    let failed_before = tally.failed();

    let ended = AtomicBool::new(false);
    let streamed = thread::scope(|scope| {
        scope.spawn(|| pass_on_interrupt(group, &ended));
        let streamed = stream(&mut child, tally, pieces);
        ended.store(true, Ordering::Relaxed);
        streamed
    });
    let status = child.wait().with_context(|| format!("wait for `{line}`"))?;
    if interrupt::check().is_err() {
        wait_for_end(group);
        sweep();
    }
    interrupt::or_interrupted(streamed).with_context(|| format!("run `{line}`"))?;
    if !status.success() && tally.failed() == failed_before {
        eprintln!("error: `{line}`: {status}, and no test says that it failed");
        tally.add_failure();
    }
    Ok(())
}

/// Until the output ends, which is when all that write to it have ended.
fn stream(child: &mut Child, tally: &mut Tally, pieces: Pieces) -> Result<()> {
    let mut output = child.stdout.take().context("the program has no output")?;
    let mut terminal = std::io::stdout();
    let mut buffer = [0; 4096];
    let mut held = Vec::new();
    loop {
        let length = match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        tally.read(&buffer[..length]);
        held.extend_from_slice(&buffer[..length]);
        let end = match pieces {
            Pieces::Any => Some(held.len()),
            Pieces::Lines => held
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map(|at| at + 1),
        };
        let shown: Vec<u8> = held.drain(..end.unwrap_or(0)).collect();
        terminal.write_all(&shown).and_then(|()| terminal.flush())?;
    }
    tally.end_of_output();
    Ok(terminal.write_all(&held)?)
}

fn pass_on_interrupt(group: Pid, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        if interrupt::check().is_err() {
            // A group that has just ended is what is wanted.
            let _ = killpg(group, Signal::SIGTERM);
            return;
        }
        thread::sleep(TICK);
    }
}

/// What a process made is removed only once the process is gone.
fn wait_for_end(group: Pid) {
    let deadline = Instant::now() + FAREWELL;
    while killpg(group, None) != Err(Errno::ESRCH) && Instant::now() < deadline {
        thread::sleep(TICK);
    }
}
