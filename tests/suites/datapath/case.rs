//! One row of a table, and how it is checked.

use super::fixture::{Counters, Programs, Run};

/// `TCX_NEXT`: whatever comes after us.
pub const NEXT: i32 = -1;
pub const SHOT: i32 = 2;
pub const REDIRECT: i32 = 7;
pub const XDP_DROP: i32 = 1;
pub const XDP_PASS: i32 = 2;

pub struct Case {
    pub what: &'static str,
    pub frame: Vec<u8>,
    /// Segment size of an aggregate, 0 for a plain frame.
    pub gso_size: u32,
    pub verdict: i32,
    /// The frame afterwards; `None` for unchanged.
    pub after: Option<Vec<u8>>,
    pub counters: Counters,
}

impl Case {
    /// A case that changes nothing in the frame.
    pub fn new(what: &'static str, frame: Vec<u8>, verdict: i32, counters: Counters) -> Self {
        Self {
            what,
            frame,
            gso_size: 0,
            verdict,
            after: None,
            counters,
        }
    }

    pub fn aggregate(self, gso_size: u32) -> Self {
        Self { gso_size, ..self }
    }

    pub fn leaving(self, after: Vec<u8>) -> Self {
        Self {
            after: Some(after),
            ..self
        }
    }
}

/// What moved from one reading of the counters to the next.
pub fn moved(before: &Counters, after: &Counters) -> Counters {
    let mut moved = after.clone();
    for (counter, value) in before {
        *moved.entry(*counter).or_insert(0) -= value;
    }
    moved.retain(|_, value| *value != 0);
    moved
}

/// Runs one case on programs that have run before, and tells what is not as it should be.
pub fn check_one(
    programs: &Programs,
    case: &Case,
    run: impl Fn(&Programs, &Case) -> Run,
) -> Result<(), String> {
    let before = programs.counters();
    let result = run(programs, case);
    let moved = moved(&before, &programs.counters());
    let after = case.after.as_ref().unwrap_or(&case.frame);
    if (result.verdict, &result.frame, &moved) == (case.verdict, after, &case.counters) {
        return Ok(());
    }
    Err(format!(
        "{}: verdict {}, not {}; counters {moved:?}, not {:?}; frame\n  {:02x?}\nnot\n  {after:02x?}",
        case.what, result.verdict, case.verdict, case.counters, result.frame
    ))
}

/// Runs every case on counters that are all zero, so that each names all that moved.
pub fn check(cases: Vec<Case>, run: impl Fn(&Programs, &Case) -> Run) {
    assert!(!cases.is_empty());
    let mut failures = Vec::new();
    let mut programs = Programs::load();
    for case in cases {
        programs.reset();
        let result = run(&programs, &case);
        let what = case.what;
        if result.verdict != case.verdict {
            failures.push(format!(
                "{what}: verdict {}, not {}",
                result.verdict, case.verdict
            ));
        }
        let after = case.after.as_ref().unwrap_or(&case.frame);
        if result.frame != *after {
            failures.push(format!(
                "{what}: frame\n  {:02x?}\nnot\n  {after:02x?}",
                result.frame
            ));
        }
        let counters = programs.counters();
        if counters != case.counters {
            failures.push(format!(
                "{what}: counters {counters:?}, not {:?}",
                case.counters
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
