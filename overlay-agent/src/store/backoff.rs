//! Waiting between attempts.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::error::StoreError;

/// Doubling delays with jitter: each is between once and twice the current step, so that many
/// agents that lost the store together do not return together.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// Steps from `first` to `last`, without end.
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(last)
            .with_jitter()
            .without_max_times();
        Self {
            builder,
            delays: builder.build(),
        }
    }

    pub(crate) fn reset(&mut self) {
        self.delays = self.builder.build();
    }

    pub(crate) async fn wait(&mut self) {
        if let Some(delay) = self.delays.next() {
            tokio::time::sleep(delay).await;
        }
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
        for step in [100, 200, 350, 350, 350] {
            let delay = backoff.delays.next().unwrap().as_millis();
            assert!((step..=2 * step).contains(&delay), "{delay} of {step}");
        }
        backoff.reset();
        assert!(backoff.delays.next().unwrap() <= Duration::from_millis(200));
    }
}
