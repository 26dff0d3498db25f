//! `cargo xtask setup`, and the parts of it that other commands need.
//!
//! Everything looks first and installs only what is missing, so the second time it says
//! nothing and takes no network.

mod programs;
mod toolchain;
mod tools;

use anyhow::Result;
pub(crate) use programs::{ALL, Program, programs};

/// Everything.
pub(crate) fn exec() -> Result<()> {
    compiler()?;
    programs(&ALL)?;
    println!("ready: compiler parts, bpf-linker and system programs are installed");
    Ok(())
}

/// What it takes to build the agent.
pub(crate) fn compiler() -> Result<()> {
    toolchain::components()?;
    tools::BPF_LINKER.install()
}

/// What it takes to build the fuzz targets: the fuzzer itself is C++.
pub(crate) fn fuzzer() -> Result<()> {
    toolchain::components()?;
    programs(&[Program::CXX])?;
    tools::CARGO_FUZZ.install()
}
