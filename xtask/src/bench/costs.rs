//! `cargo xtask bench programs`.

use anyhow::{Context as _, Result};
use tests::{interrupt, names::require_root};

use crate::{
    setup,
    shell::{cargo, stream},
};

/// The bench is a program of its own: it needs the agent's eBPF object, which this one must not.
pub(super) fn exec() -> Result<()> {
    require_root().context("the benchmark loads eBPF programs")?;
    setup::compiler()?;
    let mut bench = cargo();
    // The time is taken in the kernel: a build without optimisation does, and shares its parts with
    // the suites.
    bench.args(["bench", "--profile", "dev"]);
    bench.args(["--package", "tests", "--bench", "programs"]);
    interrupt::install()?;
    interrupt::or_interrupted(stream(&mut bench))
}
