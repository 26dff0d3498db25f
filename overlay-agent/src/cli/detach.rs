//! `detach`

use std::fs;

use anyhow::{Result, bail};
use clap::Args;

use super::output::print;
use crate::config::Config;
use crate::control::lock::{PinsLock, RunLock};
use crate::datapath::{self, Paths};
use crate::host::checks;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Remove the maps, the devices and the containers' interfaces as well: every trace
    #[arg(long)]
    all: bool,
}

/// Without `--all` the programs go and the maps stay: the containers have no network until the
/// next `run` or `attach`. The store is not changed either way.
pub(super) async fn exec(arguments: Arguments, config: &Config) -> Result<()> {
    checks::capabilities()?;
    let lock = RunLock::take(&config.run_dir)?;
    let _pins = PinsLock::take(&config.bpffs_dir)?;
    let paths = Paths::new(&config.bpffs_dir);
    let detached = if arguments.all {
        datapath::detach_all(&paths).await
    } else {
        datapath::detach_programs(&paths).await
    };
    for removed in &detached.removed {
        print(&format!("removed {removed}"))?;
    }
    if arguments.all {
        drop(lock);
        remove_run_dir(config);
    }
    let mut errors = detached.errors.into_iter();
    let Some(first) = errors.next() else {
        return Ok(());
    };
    for error in errors {
        eprintln!(
            "error: {}",
            super::one_line(&format!("{:#}", anyhow::Error::from(error)))
        );
    }
    bail!(first)
}

/// The directory stays when somebody else has something in it.
fn remove_run_dir(config: &Config) {
    for path in [
        config.agent_socket(),
        config.store_socket(),
        config.run_dir.join("agent.lock"),
    ] {
        let _ = fs::remove_file(path);
    }
    let _ = fs::remove_dir(&config.run_dir);
}
