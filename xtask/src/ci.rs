//! `cargo xtask ci`.

use std::process::ExitCode;

use anyhow::Result;
use tests::paths;

use crate::{
    setup,
    shell::{cargo, stream},
    test,
};

/// Everything a change must pass: format, lints, all tests
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stop after format and lints
    #[arg(long)]
    no_tests: bool,
}

pub(crate) fn exec(args: &Args) -> Result<ExitCode> {
    setup::compiler()?;
    stream(cargo().args(["fmt", "--all", "--check"]))?;
    stream(cargo().args([
        "clippy",
        "--locked",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    lint_ebpf()?;
    if args.no_tests {
        return Ok(ExitCode::SUCCESS);
    }
    test::exec(&test::Args::default())
}

/// The same lints on the target that the programs run on.
fn lint_ebpf() -> Result<()> {
    // A folder of its own: crates notice the variable, and would be built anew for the host
    // each time it changes.
    let folder = paths::target().join("clippy-ebpf");
    stream(
        cargo()
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["clippy", "--locked", "--package", "overlay-ebpf"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            .arg("--target-dir")
            .arg(folder)
            .args(["--", "-D", "warnings"]),
    )
}
