//! `cargo xtask bench`.

mod arms;
mod control;
mod costs;
mod measure;
mod report;
mod swarm;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use tests::{agent, interrupt, names::require_root, workdir::WorkDir};

use self::{
    arms::{Arm, Setup},
    measure::{Effort, Metric},
    report::Report,
};
use crate::{
    build,
    setup::{Program, programs},
};

/// Measure the data paths on this machine side by side; needs root
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// 5 rounds of a second per figure, about a minute; else 15 of three, about eight
    #[arg(long)]
    quick: bool,
    /// Also write the medians to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these data paths; D needs real Docker, so it is there on request only
    #[arg(long, value_enum, value_delimiter = ',', ignore_case = true, default_values_t = Arm::DEFAULT)]
    arms: Vec<Arm>,
    /// Only these measurements
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Metric::value_variants().to_vec())]
    metrics: Vec<Metric>,
}

/// Other things than the data paths as a whole.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// What each eBPF program costs per frame, with one entry in the tables and with 100 000
    Programs,
    /// How fast a change in the store gets into the data path, and what that costs
    Control(control::Args),
}

pub(crate) fn exec(args: &Args) -> Result<()> {
    match &args.what {
        Some(What::Programs) => return costs::exec(),
        Some(What::Control(args)) => return control::exec(args),
        None => {}
    }
    require_root().context("the benchmark makes network namespaces")?;
    programs(&[
        Program::IP,
        Program::BRIDGE,
        Program::PING,
        Program::IPERF3,
        Program::QPERF,
        Program::TASKSET,
    ])?;
    if args.arms.contains(&Arm::S) {
        agent::use_binary(build::agent(true)?);
    }
    interrupt::install()?;

    if let Some(path) = &args.json {
        // Better told before the measuring than after it.
        let opened = File::options().create(true).append(true).open(path);
        opened.with_context(|| format!("open {} for the medians", path.display()))?;
    }
    let report = interrupt::or_interrupted(measure_all(args))?;
    println!("\n{report}");
    if let Some(path) = &args.json {
        let text = format!("{}\n", report.json());
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// All data paths are there at once, and each round starts with another one: what else this
/// machine does at some moment then hits all of them alike.
fn measure_all(args: &Args) -> Result<Report> {
    let effort = if args.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let (arms, metrics) = (distinct(&args.arms), distinct(&args.metrics));
    let work = WorkDir::new("bench")?;
    let mut setups = Vec::new();
    for arm in arms {
        let folder = work.folder(arm.letter())?;
        setups.push(Setup::new(arm, folder).with_context(|| format!("set up {}", arm.title()))?);
    }
    let mut report = Report::default();
    for round in 0..effort.rounds {
        eprintln!("round {} of {}", round + 1, effort.rounds);
        for &metric in &metrics {
            for turn in 0..setups.len() {
                interrupt::check()?;
                let setup = &setups[(round + turn) % setups.len()];
                let value = metric.measure(&setup.path()?, effort).with_context(|| {
                    format!("measure {} of {}", metric.name(), setup.arm.title())
                })?;
                report.add(metric, setup.arm, value);
            }
        }
    }
    Ok(report)
}

/// In the order of the report, whatever was typed.
fn distinct<T: Copy + Ord>(chosen: &[T]) -> Vec<T> {
    chosen
        .iter()
        .copied()
        .collect::<BTreeSet<T>>()
        .into_iter()
        .collect()
}
