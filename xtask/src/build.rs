//! `cargo xtask build`.

use std::path::PathBuf;

use anyhow::Result;
use tests::paths;

use crate::{
    setup,
    shell::{cargo, stream},
};

/// Build the agent, with the eBPF object inside it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Optimise the agent (its eBPF object always is)
    #[arg(long)]
    release: bool,
}

pub(crate) fn exec(args: &Args) -> Result<()> {
    let binary = agent(args.release)?;
    println!("built: {}", binary.display());
    Ok(())
}

/// Sets up, builds, and gives the path of the agent.
pub(crate) fn agent(release: bool) -> Result<PathBuf> {
    setup::compiler()?;
    let mut command = cargo();
    command.args(["build", "--package", "overlay-agent"]);
    if release {
        command.arg("--release");
    }
    stream(&mut command)?;
    let profile = if release { "release" } else { "debug" };
    Ok(paths::target().join(profile).join("overlay-agent"))
}
