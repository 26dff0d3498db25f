//! `cargo xtask test`.

mod suites;
mod tally;

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use tests::{agent::BINARY_ENV, command::line, names::require_root, process::SHOW_LOGS};

use self::{suites::Selection, tally::Tally};
use crate::{build, setup, shell::cargo};

/// Run all tests, or the named suites
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// `unit`, or a module of tests/suites; all if none is named
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
}

pub(crate) fn exec(args: &Args) -> Result<ExitCode> {
    let selection = Selection::new(&args.suites)?;
    if selection.needs_root() {
        require_root().context("run the suites, which make network namespaces")?;
        setup::programs(&setup::ALL)?;
    }
    let mut tally = Tally::default();
    // The unit tests include the agent's, whose build needs what an agent's build needs.
    setup::compiler()?;
    if selection.unit {
        run(&mut unit(), &mut tally)?;
    }
    if selection.needs_root() {
        match build::agent(true) {
            Ok(agent) => run(&mut in_namespaces(&selection, agent), &mut tally)?,
            Err(error) => {
                eprintln!("error: no agent to test: {error:#}");
                tally.add_failure();
            }
        }
    }
    println!("{tally}");
    Ok(if tally.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Unit tests and documentation tests; without optimisation, so that overflows are caught.
fn unit() -> Command {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    command.args(["-p", "overlay-common", "-p", "overlay-agent", "-p", "xtask"]);
    command
}

fn in_namespaces(selection: &Selection, agent: PathBuf) -> Command {
    let mut command = cargo();
    command
        .env(BINARY_ENV, agent)
        .env(SHOW_LOGS, "1")
        .args([
            "test",
            "-p",
            "tests",
            "--test",
            "suites",
            "--",
            "--test-threads=1",
        ])
        .args(selection.filters());
    command
}

/// Streams the output and counts in it. A program that ends badly without having said that a
/// test failed (it crashed, or did not compile) counts as one failure.
fn run(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{line}`"))?;
    let mut output = child.stdout.take().context("the test program's output")?;
    let failed_before = tally.failed();
    let mut buffer = [0; 4096];
    let mut terminal = std::io::stdout();
    loop {
        let length = output
            .read(&mut buffer)
            .with_context(|| format!("read from `{line}`"))?;
        if length == 0 {
            break;
        }
        // Not line by line: a test's name shows while it runs.
        terminal
            .write_all(&buffer[..length])
            .and_then(|()| terminal.flush())?;
        tally.read(&buffer[..length]);
    }
    let status = child.wait().with_context(|| format!("wait for `{line}`"))?;
    tally.end_of_output();
    if !status.success() && tally.failed() == failed_before {
        eprintln!("error: `{line}`: {status}, and no test says that it failed");
        tally.add_failure();
    }
    Ok(())
}
