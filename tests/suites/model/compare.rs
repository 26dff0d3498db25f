//! Many frames to a program and to the model; the first that they disagree on is made small and
//! printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use overlay_common::layout::{DropKey, fallback_index};
use overlay_common::{Direction, DropReason, FallbackCause};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::mutate::{LONGEST, shortest};
use super::reference::{Input, Outcome};
use super::worlds;
use crate::datapath::fixture::{Counter, Counters, Programs, Run, Segments};
use crate::datapath::world::World;

/// Frames on the same tables. The counters are compared once for all of them: reading them costs as
/// much as a hundred frames.
const BATCH: u64 = 500;
/// Tries to make a frame smaller.
const EFFORT: usize = 4000;
/// A program of the kernel and what has to be equal to it.
pub(super) struct Program {
    /// Frames per run.
    pub(super) packets: u64,
    pub(super) kernel: fn(&Programs, &Input) -> Run,
    pub(super) model: fn(&World, &Input) -> Outcome,
    pub(super) frame: fn(&mut StdRng) -> Vec<u8>,
    /// What all of its tables have in common.
    pub(super) tables: fn(&mut World),
}

/// Runs the program on random frames and random tables.
///
/// # Panics
/// A verdict, a byte or a counter differs from the model's.
pub(super) fn run(program: &Program) -> Seen {
    let seed = number("OVERLAY_MODEL_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        // Six digits are easy to type.
        now.as_micros() as u64 % 1_000_000
    });
    let packets = number("OVERLAY_MODEL_PACKETS").unwrap_or(program.packets);
    println!("seed {seed}, {packets} frames");
    let mut programs = Programs::load();
    let mut seen = Seen {
        is_whole: packets >= program.packets,
        ..Seen::default()
    };
    for batch in 0..packets.div_ceil(BATCH) {
        let seed = seed.wrapping_add(batch);
        if let Err(difference) = run_batch(program, &mut programs, seed, &mut seen) {
            panic!("{difference}\nagain: OVERLAY_MODEL_SEED={seed} OVERLAY_MODEL_PACKETS={BATCH}");
        }
    }
    println!("{seen:?}");
    seen
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|e| panic!("{variable}={value}: {e}")),
    )
}

fn run_batch(
    program: &Program,
    programs: &mut Programs,
    seed: u64,
    seen: &mut Seen,
) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = worlds::any(&mut rng);
    (program.tables)(&mut world);
    programs.set_world(world.clone());
    programs.reset();
    let inputs: Vec<Input> = (0..BATCH).map(|_| input(program, &mut rng)).collect();
    let mut counters = Counters::new();
    for input in &inputs {
        let outcome = (program.model)(&world, input);
        let run = (program.kernel)(programs, input);
        if !is_equal(&outcome, &run) {
            return Err(explain(program, programs, &world, input));
        }
        seen.add(input, &outcome);
        for (counter, value) in outcome.counters {
            *counters.entry(counter).or_default() += value;
        }
    }
    if programs.counters() == counters {
        return Ok(());
    }
    let guilty = inputs
        .iter()
        .find(|input| difference(program, programs, &world, input).is_some());
    Err(guilty.map_or_else(
        || "the counters of the batch differ, those of each frame alone do not".to_owned(),
        |input| explain(program, programs, &world, input),
    ))
}

fn input(program: &Program, rng: &mut StdRng) -> Input {
    let mut frame = (program.frame)(rng);
    frame.truncate(LONGEST);
    frame.resize(frame.len().max(shortest(&frame)), 0);
    let mut segments = Segments::default();
    if rng.random_bool(0.1) {
        let sizes = [1, 500, 1398, 1448, 3000, 0xffff];
        segments.size = sizes[rng.random_range(0..sizes.len())];
    }
    // Also of plain frames: the kernel changes no aggregate here, and packets are to be counted.
    if rng.random_bool(0.2) {
        segments.count = rng.random_range(0..64);
    }
    Input { frame, segments }
}

fn is_equal(outcome: &Outcome, run: &Run) -> bool {
    let mut frame = run.frame.clone();
    if let Some(at) = outcome.port_at {
        let Some(port) = frame.get_mut(at..at + 2) else {
            return false;
        };
        if u16::from_be_bytes([port[0], port[1]]) < 49152 {
            return false;
        }
        port.fill(0);
    }
    (outcome.verdict, &outcome.frame, &outcome.metadata) == (run.verdict, &frame, &run.metadata)
}

/// What the program and the model disagree on, for one frame on counters that are zero.
fn difference(
    program: &Program,
    programs: &mut Programs,
    world: &World,
    input: &Input,
) -> Option<String> {
    programs.reset();
    let outcome = (program.model)(world, input);
    let run = (program.kernel)(programs, input);
    let counters = programs.counters();
    if is_equal(&outcome, &run) && counters == outcome.counters {
        return None;
    }
    Some(format!(
        "model:  verdict {}, {:?}\n  {}\nkernel: verdict {}, {counters:?}\n  {}",
        outcome.verdict,
        outcome.counters,
        hex(&outcome.frame),
        run.verdict,
        hex(&run.frame)
    ))
}

/// The smallest and plainest frame found that they still disagree on.
fn explain(program: &Program, programs: &mut Programs, world: &World, input: &Input) -> String {
    let mut smallest = input.clone();
    let mut effort = EFFORT;
    let mut try_smaller = |smallest: &mut Input, candidate: Input| {
        if effort == 0 || candidate == *smallest {
            return;
        }
        effort -= 1;
        if difference(program, programs, world, &candidate).is_some() {
            *smallest = candidate;
        }
    };
    let plain = Input {
        segments: Segments::default(),
        ..smallest.clone()
    };
    try_smaller(&mut smallest, plain);
    let mut cut = smallest.frame.len() / 2;
    while cut > 0 {
        if smallest.frame.len() >= shortest(&smallest.frame) + cut {
            let mut candidate = smallest.clone();
            candidate.frame.truncate(smallest.frame.len() - cut);
            let before = smallest.frame.len();
            try_smaller(&mut smallest, candidate);
            if smallest.frame.len() < before {
                continue;
            }
        }
        cut /= 2;
    }
    for at in 0..smallest.frame.len() {
        let mut candidate = smallest.clone();
        candidate.frame[at] = 0;
        if candidate.frame.len() < shortest(&candidate.frame) {
            continue;
        }
        try_smaller(&mut smallest, candidate);
    }
    let difference = difference(program, programs, world, &smallest)
        .unwrap_or_else(|| "differs in company only".to_owned());
    format!(
        "{difference}\nsmallest frame, {:?}:\n  {}\nas found, {:?}:\n  {}\ntables: {world:#?}",
        smallest.segments,
        hex(&smallest.frame),
        input.segments,
        hex(&input.frame),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// How often each kind of outcome was seen: a comparison of nothing but junk proves little.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// A shorter run is somebody's search for one frame, and need not have seen everything.
    is_whole: bool,
    frames: u64,
    kinds: BTreeMap<&'static str, u64>,
    drops: BTreeMap<u8, u64>,
    fallbacks: BTreeMap<u32, u64>,
}

impl Seen {
    /// The frame went on as another one.
    pub(super) const CHANGED: &str = "changed";
    /// The frame went on, or was dropped, as it was.
    pub(super) const UNCHANGED: &str = "unchanged";

    fn add(&mut self, input: &Input, outcome: &Outcome) {
        self.frames += 1;
        let is_dropped = outcome.counters.keys().any(|counter| match counter {
            Counter::Drop(DropKey { reason, .. }) => {
                *self.drops.entry(*reason).or_default() += 1;
                true
            }
            Counter::Fallback(index) => {
                *self.fallbacks.entry(*index).or_default() += 1;
                false
            }
            Counter::Stats(..) => false,
        });
        let kind = if is_dropped {
            "dropped"
        } else if outcome.frame == input.frame {
            Self::UNCHANGED
        } else {
            Self::CHANGED
        };
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// At least one frame in a hundred.
    pub(super) fn demand(&self, kind: &str, what: &str) {
        let count = self.kinds.get(kind).copied().unwrap_or(0);
        assert!(
            !self.is_whole || count >= self.frames / 100,
            "only {count} of {} frames {what}",
            self.frames
        );
    }

    pub(super) fn demand_drops(&self, reasons: &[DropReason]) {
        for reason in reasons {
            let seen = self.drops.contains_key(&(*reason as u8));
            assert!(!self.is_whole || seen, "no frame dropped as {reason:?}");
        }
    }

    pub(super) fn demand_fallbacks(&self, causes: &[FallbackCause]) {
        for &cause in causes {
            let seen = [Direction::Tx, Direction::Rx].iter().any(|&direction| {
                let index = fallback_index(direction, cause);
                self.fallbacks.contains_key(&index)
            });
            assert!(!self.is_whole || seen, "no frame fell back as {cause:?}");
        }
    }
}
