//! Running programs with their output streamed to the terminal.

use std::{path::Path, process::Command};

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
    let line = shown(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("start `{line}`"))?;
    if !status.success() {
        bail!("`{line}`: {status}");
    }
    Ok(())
}

/// The command as one would type it: without the folder that cargo or a toolchain lives in.
pub(crate) fn shown(command: &Command) -> String {
    let line = line(command);
    let program = command.get_program().to_string_lossy();
    match (
        Path::new(&*program).file_name(),
        line.strip_prefix(&*program),
    ) {
        (Some(name), Some(arguments)) => format!("{}{arguments}", name.to_string_lossy()),
        _ => line,
    }
}
