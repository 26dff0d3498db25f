//! How long the addresses of a network last at the present rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What the rate is taken over.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// Between two counts that are kept.
const SPACING: Duration = Duration::from_secs(10);

/// Counts of free addresses in the past.
#[derive(Debug, Default)]
pub struct Trend(VecDeque<(Instant, u128)>);

impl Trend {
    /// Seconds until none is free; infinite while they do not get fewer. `now` and `free` are the latest count.
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    pub fn seconds_left(&mut self, now: Instant, free: u128) -> f64 {
        let kept = &mut self.0;
        while kept
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            kept.pop_front();
        }
        if kept
            .back()
            .is_none_or(|(at, _)| now.duration_since(*at) >= SPACING)
        {
            kept.push_back((now, free));
        }
        if free == 0 {
            return 0.0;
        }
        let Some((since, before)) = kept.front() else {
            return f64::INFINITY;
        };
        let gone = before.saturating_sub(free);
        if gone == 0 {
            return f64::INFINITY;
        }
        now.duration_since(*since).as_secs_f64() * free as f64 / gone as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_present_rate() {
        let (mut trend, start) = (Trend::default(), Instant::now());
        let mut at = |seconds, free| trend.seconds_left(start + Duration::from_secs(seconds), free);
        assert_eq!(at(0, 1000), f64::INFINITY, "nothing to compare with");
        assert_eq!(at(30, 1000), f64::INFINITY);
        assert_eq!(at(60, 940), 940.0, "one a second");
        assert_eq!(at(61, 1001), f64::INFINITY, "more than before");
        assert_eq!(at(120, 880), 880.0);
        // After a quarter of an hour only the count of two minutes is left to compare with.
        assert_eq!(at(120 + 900, 700), 700.0 * 900.0 / 180.0);
        assert_eq!(at(120 + 901, 0), 0.0);
        assert_eq!(at(10_000, 700), f64::INFINITY);
    }

    #[test]
    fn counts_are_bounded() {
        let (mut trend, start) = (Trend::default(), Instant::now());
        for second in 0..10_000 {
            trend.seconds_left(start + Duration::from_secs(second), 1 << 64);
        }
        assert!(trend.0.len() <= 91, "{}", trend.0.len());
    }
}
