//! `cargo xtask bench`.

mod arms;
mod charts;
mod containers;
mod control;
mod costs;
mod junk;
mod link;
mod machine;
mod measure;
mod metric;
mod plan;
mod report;
mod softirq;
mod stats;
mod swarm;
mod table;
mod targets;

use std::{
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, error::ErrorKind};
use tests::{agent, interrupt, names::require_root, workdir::WorkDir};

use self::{
    arms::{Arm, Setup},
    link::Link,
    machine::Machine,
    measure::Effort,
    metric::{Metric, Probe},
    plan::{Plan, Wanted},
    report::{Report, Row},
};
use crate::{
    Cli, build,
    setup::{Program, programs},
};

/// Measure the data paths on this machine side by side; needs root
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// 5 rounds of a second per figure, of the most telling figures over one link: less than three
    /// minutes. Else 11 of two seconds, of all: about 40 minutes
    #[arg(long)]
    quick: bool,
    /// Also write machine, medians, all rounds and targets to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw a chart of each metric into this folder
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// Only these data paths; D needs real Docker, so it is there on request only [default: all but D]
    #[arg(long, value_enum, value_delimiter = ',', ignore_case = true)]
    arms: Option<Vec<Arm>>,
    /// Only these measurements [default: all; some with --quick]
    #[arg(long, value_enum, value_delimiter = ',')]
    metrics: Option<Vec<Metric>>,
    /// Only over these links [default: both; `offload` with --quick]
    #[arg(long, value_enum, value_delimiter = ',')]
    links: Option<Vec<Link>>,
}

/// Other things than the data paths as a whole.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// What each eBPF program costs per frame, with one entry in the tables and with many
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
    let wanted = Wanted {
        quick: args.quick,
        arms: args.arms.as_deref(),
        metrics: args.metrics.as_deref(),
        links: args.links.as_deref(),
    };
    // Nothing can come of it: wrong usage, like a name that there is not.
    let plan = Plan::new(wanted).unwrap_or_else(|why| {
        Cli::command()
            .error(ErrorKind::ArgumentConflict, why)
            .exit()
    });
    require_root().context("the benchmark makes network namespaces")?;
    programs(&[
        Program::IP,
        Program::BRIDGE,
        Program::PING,
        Program::IPERF3,
        Program::QPERF,
        Program::SOCKPERF,
        Program::TASKSET,
        Program::ETHTOOL,
    ])?;
    if plan.arms.iter().any(|arm| matches!(arm, Arm::S | Arm::X)) {
        agent::use_binary(build::agent(true)?);
    }
    interrupt::install()?;

    // Better told before the measuring than after it.
    if let Some(path) = &args.json {
        let opened = File::options().create(true).append(true).open(path);
        opened.with_context(|| format!("open {} for the medians", path.display()))?;
    }
    if let Some(folder) = &args.charts {
        fs::create_dir_all(folder)
            .with_context(|| format!("create the folder {} for charts", folder.display()))?;
    }
    let effort = if args.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let report = interrupt::or_interrupted(measure_all(&plan, effort))?;
    println!("\n{report}");
    if let Some(path) = &args.json {
        let text = format!("{}\n", report.json());
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(folder) = &args.charts {
        charts::write(&report, folder)?;
    }
    Ok(())
}

fn measure_all(plan: &Plan, effort: Effort) -> Result<Report> {
    let work = WorkDir::new("bench")?;
    let mut report = Report::new(Machine::this());
    // First, since it builds something: the rest has the machine for itself.
    if plan.includes(Probe::Programs) {
        report.programs = costs::measure(work.path())?;
    }
    let mut setups = Vec::new();
    for &arm in &plan.arms {
        let folder = work.folder(arm.letter())?;
        setups.push(Setup::new(arm, folder).with_context(|| format!("set up {}", arm.title()))?);
    }
    for &link in &plan.links {
        measure_over(link, plan, &setups, effort, &mut report)?;
    }
    if plan.includes(Probe::Junk) {
        junk::measure(&setups, effort, &mut report)?;
    }
    report.keep(&plan.metrics);
    Ok(report)
}

/// All data paths are there at once, and each round starts with another one: what else this
/// machine does at some moment then hits all of them alike.
fn measure_over(
    link: Link,
    plan: &Plan,
    setups: &[Setup],
    effort: Effort,
    report: &mut Report,
) -> Result<()> {
    let probes = plan.rounds(link);
    if probes.is_empty() {
        return Ok(());
    }
    for setup in setups {
        setup.set_link(link)?;
    }
    for round in 0..effort.rounds {
        eprintln!("{}: round {} of {}", link.name(), round + 1, effort.rounds);
        for probe in &probes {
            for turn in 0..setups.len() {
                let setup = &setups[(round + turn) % setups.len()];
                if !probe.takes(setup.arm) {
                    continue;
                }
                interrupt::check()?;
                let values = probe
                    .measure(&setup.path()?, effort.each)
                    .with_context(|| format!("{probe:?} of {}", setup.arm.title()))?;
                for (metric, value) in values {
                    let row = Row {
                        metric,
                        link,
                        of: None,
                    };
                    report.add(row, setup.arm, value);
                }
            }
        }
    }
    Ok(())
}
