//! `cargo xtask test`.

mod runner;
mod suites;
mod tally;

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use clap::builder::PossibleValuesParser;
use tests::{
    agent::BINARY_ENV,
    docker::{DockerVersion, VERSION_ENV},
    interrupt,
    names::require_root,
    process::SHOW_LOGS,
};

use self::{
    runner::{run, run_together},
    suites::Selection,
    tally::Tally,
};
use crate::{build, setup, shell::cargo};

/// Run all tests, or the named suites; all but `unit` need root
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Which; `consul` are those of any suite that have it in their name [default: all]
    #[arg(value_name = "SUITE", value_parser = PossibleValuesParser::new(suites::names()))]
    suites: Vec<String>,
    /// Which Docker the suite `docker` starts [default: 26.1]
    #[arg(long, value_name = "VERSION")]
    docker_version: Option<DockerVersion>,
}

pub(crate) fn exec(args: &Args) -> Result<ExitCode> {
    let selection = Selection::new(&args.suites);
    if selection.needs_root() {
        require_root().context("run the suites, which make network namespaces")?;
        setup::programs(&setup::ALL)?;
    }
    let mut tally = Tally::default();
    // The unit tests include the agent's, whose build needs what an agent's build needs.
    setup::compiler()?;
    interrupt::install()?;
    if selection.unit {
        run(&mut unit(), &mut tally)?;
    }
    if selection.needs_root() {
        match build::agent(true) {
            Ok(agent) => {
                let runs = selection.runs().into_iter();
                let runs = runs.map(|filters| in_namespaces(&filters, &agent, args));
                run_together(runs.collect(), &mut tally)?;
            }
            Err(error) => {
                interrupt::check()?;
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

fn in_namespaces(filters: &[String], agent: &Path, args: &Args) -> Command {
    let mut command = cargo();
    if let Some(version) = args.docker_version {
        command.env(VERSION_ENV, version.name());
    }
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
        .args(filters);
    command
}
