//! `cargo xtask bench control`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tests::{agent::BINARY_ENV, interrupt, names::require_root};

use crate::{
    build,
    setup::{Program, programs},
    shell::{cargo, stream},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Fewer samples, about five minutes; else about fifteen
    #[arg(long)]
    quick: bool,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these, separated by commas: idle, map, packet, heal, burst, cold, bytes, large-heal
    #[arg(long, value_name = "NAMES")]
    figures: Option<String>,
}

/// The bench is a program of its own: it needs the agent's store client, which this one must not.
pub(super) fn exec(args: &Args) -> Result<()> {
    require_root().context("the benchmark makes network namespaces")?;
    programs(&[Program::IP, Program::BRIDGE])?;
    let agent = build::agent(true)?;
    let mut bench = cargo();
    bench.args(["bench", "--package", "tests", "--bench", "control", "--"]);
    if args.quick {
        bench.arg("--quick");
    }
    if let Some(path) = &args.json {
        // Cargo runs it in another folder.
        let path = std::path::absolute(path).context("find the current folder")?;
        bench.arg("--json").arg::<&Path>(&path);
    }
    if let Some(figures) = &args.figures {
        bench.args(["--figures", figures]);
    }
    bench.env(BINARY_ENV, agent);
    interrupt::install()?;
    interrupt::or_interrupted(stream(&mut bench))
}
