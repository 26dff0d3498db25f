//! What each program costs per frame, with one remote endpoint in the tables, with 1000, and with
//! 100 000. docs/benchmarks.md says how it is measured.

#[expect(dead_code, reason = "the suites use the rest")]
#[path = "../../suites/datapath/fixture.rs"]
mod fixture;
#[expect(dead_code, reason = "the suites use the rest")]
#[path = "../../suites/datapath/frames.rs"]
mod frames;
mod rows;
mod tables;
#[path = "../../suites/datapath/world.rs"]
mod world;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use overlay_common::maps::UNDERLAY_FILTER;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::{SeedableRng as _, seq::SliceRandom as _};

use self::fixture::Programs;
use self::rows::{NOTHING, ROWS, Row};
use self::tables::{MANY, Size, THOUSAND};

const ROUNDS: usize = 201;
/// Frames of one measurement.
const FRAMES: usize = 64;
/// What the larger tables may cost, as a factor.
const TARGET: f64 = 1.2;

/// What one row took in one round, in ns: right after each other, so that whatever else the machine
/// does at that moment hits all alike.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// With the only entry there is.
    single: f64,
    /// With one of a thousand entries, the same for all frames.
    thousand: f64,
    /// With one of many entries, the same for all frames.
    hot: f64,
    /// With one of many entries, for each frame another.
    cold: f64,
    /// A program that returns at once.
    nothing: f64,
}

fn main() {
    stay_on_one_cpu();
    let (single, thousand, many) = (load(Size::ONE), load(Size::THOUSAND), load(Size::MANY));
    let mut random = StdRng::seed_from_u64(1);
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); ROWS.len()];
    for _ in 0..ROUNDS {
        for (row, figures) in ROWS.iter().zip(&mut figures) {
            let hot = random.random_range(0..MANY);
            let mut round = Figures::default();
            let mut turns = [0, 1, 2, 3, 4];
            turns.shuffle(&mut random);
            for turn in turns {
                match turn {
                    0 => round.single = measure(&single, row, || 0),
                    1 => round.thousand = measure(&thousand, row, || hot % THOUSAND),
                    2 => round.hot = measure(&many, row, || hot),
                    3 => round.cold = measure(&many, row, || random.random_range(0..MANY)),
                    _ => round.nothing = measure(&single, &NOTHING, || 0),
                }
            }
            figures.push(round);
        }
    }
    // Cargo adds an argument of its own.
    let mut arguments = std::env::args().skip_while(|argument| argument != "--json");
    match arguments.nth(1) {
        Some(path) => write(&path, &figures),
        None => report(&figures),
    }
}

/// Loads the programs over tables of a size.
fn load(size: Size) -> Programs {
    let mut programs = Programs::load();
    programs.set_world(tables::world(size));
    programs
}

/// The mean of the middle half of single runs in ns: interrupts do not count, and the clock's ticks, of
/// 10 ns on some machines, do not show.
fn measure(programs: &Programs, row: &Row, mut next: impl FnMut() -> u32) -> f64 {
    let runs = (0..FRAMES).map(|_| {
        let (verdict, nanoseconds) = run(programs, row, &(row.frame)(next()));
        assert_eq!(
            verdict, row.verdict,
            "{}: not what is to be measured",
            row.name
        );
        nanoseconds
    });
    let mut runs: Vec<f64> = runs.collect();
    runs.sort_by(f64::total_cmp);
    let middle = &runs[FRAMES / 4..FRAMES * 3 / 4];
    middle.iter().sum::<f64>() / middle.len() as f64
}

fn run(programs: &Programs, row: &Row, frame: &[u8]) -> (i32, f64) {
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    let context = row.context();
    let program = programs.ebpf.program(row.program).expect("a program");
    let result = if row.program == UNDERLAY_FILTER {
        let program: &Xdp = program.try_into().expect("an XDP program");
        program.test_run(options)
    } else {
        let program: &SchedClassifier = program.try_into().expect("a classifier");
        options.ctx_in = Some(&context);
        program.test_run(options)
    };
    let result = result.expect("run the program");
    (
        result.return_value.cast_signed(),
        result.duration.as_nanos() as f64,
    )
}

/// Medians of a row, less the measurement itself.
#[derive(Debug)]
struct Cost {
    name: &'static str,
    /// Single, thousand, hot, cold.
    ns: [f64; 4],
    /// Hot against single.
    ratio: f64,
}

fn median(rounds: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn costs(figures: &[Vec<Figures>]) -> Vec<Cost> {
    let rows = ROWS.iter().zip(figures);
    rows.map(|(row, rounds)| Cost {
        name: row.name,
        ns: [
            median(rounds, |f| f.single - f.nothing),
            median(rounds, |f| f.thousand - f.nothing),
            median(rounds, |f| f.hot - f.nothing),
            median(rounds, |f| f.cold - f.nothing),
        ],
        ratio: median(rounds, |f| (f.hot - f.nothing) / (f.single - f.nothing)),
    })
    .collect()
}

fn report(figures: &[Vec<Figures>]) {
    let nothing = median(&figures.concat(), |f| f.nothing);
    println!(
        "ns per frame: medians of {ROUNDS} rounds, less the {nothing:.0} of a program that returns at once"
    );
    println!(
        "{:<44}{:>9}{THOUSAND:>9}{MANY:>9}{:>8}{:>9}",
        "remote endpoints", 1, "ratio", "random"
    );
    for Cost { name, ns, ratio } in costs(figures) {
        let [single, thousand, hot, cold] = ns;
        let verdict = if ratio > TARGET { "   over 1.2" } else { "" };
        println!(
            "{name:<44}{single:>9.0}{thousand:>9.0}{hot:>9.0}{ratio:>8.2}{cold:>9.0}{verdict}"
        );
    }
}

/// `--json FILE`, for `cargo xtask bench`: `[{"name":…,"ns":[…],"ratio":…}]`.
fn write(path: &str, figures: &[Vec<Figures>]) {
    let rows: Vec<serde_json::Value> = costs(figures)
        .iter()
        .map(|cost| serde_json::json!({ "name": cost.name, "ns": cost.ns, "ratio": cost.ratio }))
        .collect();
    let text = serde_json::Value::from(rows).to_string();
    std::fs::write(path, text).unwrap_or_else(|error| panic!("write {path}: {error}"));
}

/// The last one: the first serves most interrupts.
fn stay_on_one_cpu() {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let mut cpus = CpuSet::new();
    cpus.set(last).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("stay on one CPU");
}
