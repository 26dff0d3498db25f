//! `cargo xtask run`.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};
use tests::names::require_root;

use crate::build;

/// Build the agent and run it on this host; needs root
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Arguments of `overlay-agent run`, after `--`
    #[arg(last = true, value_name = "ARGUMENTS")]
    agent: Vec<String>,
}

/// Does not return if it works: this process becomes the agent, and gets its signals.
pub(crate) fn exec(args: &Args) -> Result<()> {
    require_root().context("the agent loads eBPF programs and makes devices")?;
    let binary = build::agent(true)?;
    let error = Command::new(&binary).arg("run").args(&args.agent).exec();
    Err(error).with_context(|| format!("start {}", binary.display()))
}
