//! `cargo xtask fuzz`.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::builder::PossibleValuesParser;

use crate::{
    setup,
    shell::{cargo, shown, stream},
};

const MANIFEST: &str = include_str!("../../fuzz/Cargo.toml");

/// As long as the longest well-formed frame that the inputs start from, and some more.
const MAX_LEN: &str = "-max_len=512";

/// Let a fuzzer look for frames that break a parser or a decision
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which [default: all, one after the other]
    #[arg(value_name = "TARGET", value_parser = PossibleValuesParser::new(targets()))]
    target: Option<String>,
    /// How long to look, for each target
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// What is found goes on to the next run: inputs that reach new branches in `fuzz/corpus`, those that
/// break something in `fuzz/artifacts`.
pub(crate) fn exec(args: &Args) -> Result<()> {
    setup::fuzzer()?;
    let targets = match &args.target {
        Some(target) => vec![target.as_str()],
        None => targets(),
    };
    for target in &targets {
        // Before the time begins.
        stream(fuzz("build").arg(target))?;
    }
    for target in &targets {
        let mut run = fuzz("run");
        run.args([target, "--", MAX_LEN]);
        run.arg(format!("-max_total_time={}", args.seconds));
        let line = shown(&run);
        eprintln!("$ {line}");
        let status = run.status().with_context(|| format!("start `{line}`"))?;
        if !status.success() {
            bail!(
                "fuzz target {target} failed ({status}): the input is in fuzz/artifacts/{target}; \
                 repeat it with `RUSTC_BOOTSTRAP=1 cargo fuzz run {target} FILE`"
            );
        }
    }
    println!(
        "no failure of {} in {} s each",
        targets.join(", "),
        args.seconds
    );
    Ok(())
}

/// The sanitizer is an unstable option of the compiler; the variable is for this build alone, whose
/// folder is its own.
fn fuzz(command: &str) -> Command {
    let mut cargo = cargo();
    cargo.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", command]);
    cargo
}

/// The programs of the fuzz crate.
fn targets() -> Vec<&'static str> {
    let name = |line: &'static str| line.strip_prefix("name = \"")?.strip_suffix('"');
    MANIFEST
        .split("[[bin]]")
        .skip(1)
        .filter_map(|program| program.lines().find_map(name))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_are_those_of_the_fuzz_crate() {
        let wanted = ["answers", "endpoint", "guard", "parsers", "underlay"];
        assert_eq!(super::targets(), wanted);
    }
}
