//! How fast a change in the store gets into the data path of the hosts that it concerns, and what that
//! costs. docs/benchmarks.md says how it is measured.

mod burst;
mod cold;
mod fdb;
mod heal;
mod idle;
mod interested;
mod options;
mod packet;
mod population;
mod process;
mod report;
mod spread;
mod traffic;
mod world;

use std::fs;

use anyhow::{Context as _, Result};
use tests::interrupt;

use self::options::{Figure, Options};
use self::population::Population;
use self::report::Report;
use self::world::World;

fn main() -> Result<()> {
    let options = Options::from_args(std::env::args().skip(1))?;
    interrupt::install()?;
    let mut report = Report::default();
    let measured = measure_all(&options, &mut report);
    // Also after a failure half-way.
    println!("\n{report}");
    if let Some(path) = &options.json {
        let text = format!("{}\n", report.json());
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    interrupt::or_interrupted(measured)
}

fn measure_all(options: &Options, report: &mut Report) -> Result<()> {
    if options.has(Figure::Idle) {
        idle::measure(options.quick, report)?;
    }
    medium_network(options, report)?;
    large_network(options, report)
}

/// 200 hosts with 50 endpoints each.
fn medium_network(options: &Options, report: &mut Report) -> Result<()> {
    let figures = [Figure::Map, Figure::Packet, Figure::Heal, Figure::Burst];
    if !figures.iter().any(|figure| options.has(*figure)) {
        return Ok(());
    }
    let mut world = World::new(2)?;
    let mut population = Population::new(&world, 200, 50)?;
    world.start_agent(0)?;
    let fdb = world.fdb(0)?;
    fdb.wait_for(&population)?;
    if options.has(Figure::Map) {
        for (others, targets) in spread::INTERESTED {
            spread::measure(
                &world,
                &mut population,
                others,
                targets,
                options.quick,
                report,
            )?;
        }
    }
    if options.has(Figure::Heal) {
        heal::measure(&mut world, &mut population, options.quick, report)?;
    }
    if options.has(Figure::Burst) {
        burst::measure(&mut world, &mut population, report)?;
    }
    if options.has(Figure::Packet) {
        packet::measure(&mut world, options.quick, report)?;
    }
    Ok(())
}

/// 1000 hosts with 100 endpoints each.
fn large_network(options: &Options, report: &mut Report) -> Result<()> {
    let figures = [Figure::Cold, Figure::Bytes, Figure::LargeHeal];
    if !figures.iter().any(|figure| options.has(*figure)) {
        return Ok(());
    }
    let mut world = World::new(1)?;
    world.start_agent(0)?;
    let empty = cold::Memory::of(&world)?;
    // Filling the network is not what is measured.
    world.lab.hosts[0].agent()?.kill9()?;
    let mut population = Population::new(&world, 1000, 100)?;
    cold::measure(&mut world, &population, empty, options.quick, report)?;
    if options.has(Figure::Bytes) {
        traffic::measure(&world, &mut population, options.quick, report)?;
    }
    if options.has(Figure::LargeHeal) {
        heal::measure(&mut world, &mut population, options.quick, report)?;
    }
    Ok(())
}
