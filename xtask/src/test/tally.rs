//! Counting in what the test runner prints.

use std::fmt;

/// The sum of all `test result:` lines seen so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: u64,
    failed: u64,
    line: Vec<u8>,
}

impl Tally {
    /// Takes the next piece of output, which may end anywhere in a line.
    pub(super) fn read(&mut self, output: &[u8]) {
        for &byte in output {
            if byte == b'\n' {
                self.end_of_output();
            } else {
                self.line.push(byte);
            }
        }
    }

    /// The last line may lack its end.
    pub(super) fn end_of_output(&mut self) {
        let line = std::mem::take(&mut self.line);
        if let Some((passed, failed)) = counts(&String::from_utf8_lossy(&line)) {
            self.passed += passed;
            self.failed += failed;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn add_failure(&mut self) {
        self.failed += 1;
    }

    /// Something ran and nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// From `test result: ok. 2 passed; 0 failed; 0 ignored; …`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (_, result) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = result.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::Tally;

    const GOOD: &str = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
    const BAD: &str =
        "test result: FAILED. 5 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";

    #[test]
    fn results_are_summed_across_pieces_and_without_a_last_newline() {
        let output = format!("running 2 tests\ntest a ... ok\n{GOOD}said: {GOOD}{BAD}");
        let mut tally = Tally::default();
        for piece in output.as_bytes().chunks(7) {
            tally.read(piece);
        }
        tally.end_of_output();
        assert_eq!(tally.to_string(), "7 passed, 3 failed");
        assert!(!tally.is_good());
    }

    #[test]
    fn nothing_run_is_not_good() {
        let mut tally = Tally::default();
        assert!(!tally.is_good());
        tally.read(GOOD.as_bytes());
        assert!(tally.is_good());
        tally.add_failure();
        assert!(!tally.is_good());
    }
}
