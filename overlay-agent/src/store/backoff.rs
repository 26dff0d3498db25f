//! Waiting between attempts.

use std::time::{Duration, Instant};

use rand::Rng as _;

use super::error::StoreError;

/// Doubling delays with jitter: each is between half and all of the current step, so that many
/// agents that lost the store together do not return together.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    step: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            step: first,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.step = self.first;
    }

    pub(crate) fn delay(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.last);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.delay()).await;
    }
}

/// Repeats, for a bounded time, of a read-check-write operation.
#[derive(Debug)]
pub(crate) struct Attempts {
    until: Instant,
    backoff: Backoff,
    unknown: bool,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self {
            // A leader's death costs writes 14 s with Consul's default settings.
            until: Instant::now() + Duration::from_secs(20),
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_secs(2)),
            unknown: false,
        }
    }

    /// Sleeps when the operation is worth repeating after `error`, else gives the error back.
    ///
    /// A conflict means that the state moved between read and write; an unknown outcome means
    /// that only the next read tells whether the write was applied. Both are settled by reading
    /// again, the latter also when the store that broke off is not to be reached for a while.
    pub(crate) async fn after(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.unknown |= error.is_unknown_outcome();
        let settles = error.is_conflict() || self.unknown && error.is_outage();
        if Instant::now() > self.until || !settles {
            return Err(error);
        }
        self.backoff.wait().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for step in [100, 200, 350, 350] {
            let delay = backoff.delay().as_millis();
            assert!((step / 2..=step).contains(&delay), "{delay} of {step}");
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(100));
    }
}
