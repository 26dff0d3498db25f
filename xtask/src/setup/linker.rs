//! The linker of eBPF objects.

use std::process::Command;

use anyhow::{Context as _, Result};
use tests::command::{on_path, output};

use crate::shell::{cargo, stream};

/// Uses the LLVM of the pinned compiler: moves together with `rust-toolchain.toml`.
const VERSION: &str = "0.10.3";

/// Installs bpf-linker at [`VERSION`] unless it is there.
pub(super) fn bpf_linker() -> Result<()> {
    if is_installed() {
        return Ok(());
    }
    eprintln!("installing bpf-linker {VERSION} (takes some minutes, once)");
    // --force: replaces another version.
    stream(cargo().args([
        "install",
        "bpf-linker",
        "--version",
        VERSION,
        "--locked",
        "--force",
    ]))?;
    if on_path("bpf-linker").is_none() {
        anyhow::bail!("bpf-linker is installed but not in PATH: add cargo's bin folder to PATH");
    }
    Ok(())
}

fn is_installed() -> bool {
    output(Command::new("bpf-linker").arg("--version"))
        .context("ask bpf-linker for its version")
        .is_ok_and(|said| said.split_whitespace().nth(1) == Some(VERSION))
}
