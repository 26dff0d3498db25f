//! `cargo xtask`: build, run, demonstrate, test and measure the overlay forwarder.

mod bench;
mod build;
mod ci;
mod demo;
mod fuzz;
mod run;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, run, demonstrate, test and measure the overlay forwarder.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the other commands need and what is missing: compiler parts, bpf-linker,
    /// system packages
    Setup,
    Build(build::Args),
    Run(run::Args),
    Demo(demo::Args),
    Test(test::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
    Ci(ci::Args),
}

fn main() -> ExitCode {
    match exec(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn exec(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup => setup::exec()?,
        Command::Build(args) => build::exec(&args)?,
        Command::Run(args) => run::exec(&args)?,
        Command::Demo(args) => demo::exec(&args)?,
        Command::Test(args) => return test::exec(&args),
        Command::Bench(args) => bench::exec(&args)?,
        Command::Fuzz(args) => fuzz::exec(&args)?,
        Command::Ci(args) => return ci::exec(&args),
    }
    Ok(ExitCode::SUCCESS)
}
