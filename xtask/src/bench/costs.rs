//! `cargo xtask bench programs`, also as a part of the whole.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::{interrupt, names::require_root};

use super::metric::Metric;
use crate::{
    setup,
    shell::{cargo, stream},
};

/// What one program costs on one kind of frame.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ProgramCost {
    pub(super) name: String,
    /// With 1, 1000 and 100 000 endpoints, and with another one of these for each frame.
    pub(super) ns: [f64; 4],
    /// The third against the first, as the median of the rounds' ratios.
    pub(super) ratio: f64,
}

impl ProgramCost {
    pub(super) fn json(&self) -> Value {
        let [one, thousand, many, random] = self.ns;
        json!({
            "metric": Metric::ProgramNs.name(),
            "of": self.name,
            "median": { "1": one, "1000": thousand, "100000": many, "random": random },
            "ratio": self.ratio,
        })
    }
}

pub(super) fn exec() -> Result<()> {
    require_root().context("the benchmark loads eBPF programs")?;
    interrupt::install()?;
    interrupt::or_interrupted(run(None))
}

/// The same for the report. What is said goes through a file in `folder`.
pub(super) fn measure(folder: &Path) -> Result<Vec<ProgramCost>> {
    let file = folder.join("programs.json");
    run(Some(&file))?;
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

/// The bench is a program of its own: it needs the agent's eBPF object, which this one must not.
fn run(json: Option<&Path>) -> Result<()> {
    setup::compiler()?;
    let mut bench = cargo();
    // The time is taken in the kernel: a build without optimisation does, and shares its parts with
    // the suites.
    bench.args(["bench", "--profile", "dev"]);
    bench.args(["--package", "tests", "--bench", "programs"]);
    if let Some(path) = json {
        bench.args(["--", "--json"]).arg(path);
    }
    stream(&mut bench)
}
