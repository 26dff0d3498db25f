//! What the kernel says of its CPUs' time.

use std::fs;

use anyhow::{Context as _, Result};

/// `USER_HZ`, in which `/proc/stat` counts on every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds that all CPUs together have spent in soft interrupts since the start: of both hosts, since
/// they share this machine, and of whatever else ran on it.
pub(super) fn seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    parse(&text).context("find the time of soft interrupts in /proc/stat")
}

/// `cpu  user nice system idle iowait irq softirq …`
fn parse(text: &str) -> Option<f64> {
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: f64 = all.split_whitespace().nth(6)?.parse().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn softirq_is_the_seventh() {
        let text = "cpu  10 20 30 40 50 60 7000 80 90 100\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(parse(text), Some(70.0));
        assert_eq!(parse("cpu0 1 2 3 4 5 6 7 8 9 10\n"), None);
        assert_eq!(parse("cpu  1 2 3 4 5 6\n"), None);
    }
}
