//! Points in time that are told to people.

use std::time::{Duration, Instant, SystemTime};

/// A point in time: what the clock said then, and how long ago it is whatever that clock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    at: SystemTime,
    /// When this was made, and how old it was then.
    made: Instant,
    before: Duration,
}

impl Moment {
    pub fn now() -> Self {
        Self {
            at: SystemTime::now(),
            made: Instant::now(),
            before: Duration::ZERO,
        }
    }

    /// Of an earlier run: how long ago it is by the clock; not at all when that was set back.
    pub fn earlier(at: SystemTime) -> Self {
        Self {
            at,
            made: Instant::now(),
            before: at.elapsed().unwrap_or_default(),
        }
    }

    /// For people.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    pub fn age(&self) -> Duration {
        self.before + self.made.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_an_earlier_run_ages() {
        let now = Moment::now();
        assert!(now.age() < Duration::from_secs(60));
        let hour = Duration::from_secs(3600);
        let before = Moment::earlier(now.at() - hour);
        assert!(before.age() >= hour && before.age() < 2 * hour);
        let ahead = Moment::earlier(now.at() + hour);
        assert_eq!(ahead.at(), now.at() + hour);
        assert!(ahead.age() < Duration::from_secs(60));
    }
}
