//! Programs that cargo installs.

use std::process::Command;

use anyhow::{Context as _, Result};
use tests::command::{on_path, output};

use crate::shell::{cargo, stream};

/// A crate that is one program, at the version that this project works with.
#[derive(Debug)]
pub(super) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// The linker of eBPF objects. It uses the LLVM of the pinned compiler: its version moves together
/// with `rust-toolchain.toml`.
pub(super) const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.10.3",
};

/// Builds and runs fuzz targets.
pub(super) const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
};

impl Tool {
    /// Installs it unless it is there.
    pub(super) fn install(&self) -> Result<()> {
        let Self { name, version } = self;
        if self.is_installed() {
            return Ok(());
        }
        eprintln!("installing {name} {version} (takes some minutes, once)");
        // --force: replaces another version.
        stream(cargo().args(["install", name, "--version", version, "--locked", "--force"]))?;
        if on_path(name).is_none() {
            anyhow::bail!("{name} is installed but not in PATH: add cargo's bin folder to PATH");
        }
        Ok(())
    }

    fn is_installed(&self) -> bool {
        output(Command::new(self.name).arg("--version"))
            .with_context(|| format!("ask {} for its version", self.name))
            .is_ok_and(|said| said.split_whitespace().nth(1) == Some(self.version))
    }
}
