//! Running programs with their output streamed to the terminal.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tests::{command::line, paths};

/// Cargo, in the workspace: the one that runs this program, so the same toolchain.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(paths::workspace());
    command
}

/// Says what it runs, runs it, and fails if it fails.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", line(command));
    let status = command
        .status()
        .with_context(|| format!("start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}`: {status}", line(command));
    }
    Ok(())
}
