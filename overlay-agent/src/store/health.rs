//! What the client saw of the store, for status, metrics and readiness.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Moment;
use super::error::{ErrorKind, StoreError, in_full};

/// Shared by everything that uses one [`Client`](super::Client).
#[derive(Debug, Default)]
pub struct StoreHealth {
    state: Mutex<HealthView>,
}

/// A copy of the state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    /// Whether the last request got an answer that only a working store gives.
    pub up: bool,
    /// Whether it is down because it does not answer, or has trouble of its own.
    pub away: bool,
    pub last_contact: Option<Moment>,
    /// When the first of the current row of failures happened; `None` while up and before the
    /// first request.
    pub down_since: Option<Moment>,
    /// The latest failure, kept after recovery.
    pub last_error: Option<String>,
    errors: [u64; ErrorKind::ALL.len()],
}

impl HealthView {
    /// How many errors of each kind there were.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        ErrorKind::ALL.into_iter().zip(self.errors)
    }
}

impl StoreHealth {
    pub fn view(&self) -> HealthView {
        self.lock().clone()
    }

    /// Takes over when an earlier run has heard of the store.
    pub(crate) fn remember(&self, last_contact: Moment) {
        self.lock().last_contact.get_or_insert(last_contact);
    }

    /// Records an answer.
    pub(crate) fn contact(&self) {
        let now = Moment::now();
        let mut state = self.lock();
        state.last_contact = Some(now);
        let recovered = state.down_since.take();
        state.up = true;
        state.away = false;
        drop(state);
        if recovered.is_some() {
            tracing::info!("the store answers again");
        }
    }

    /// Records a failure. One that a working store may answer (a conflict, a denied key) counts,
    /// but does not mean that the store is down.
    pub(crate) fn failure(&self, error: &StoreError) {
        let kind = error.kind();
        let mut state = self.lock();
        state.errors[kind as usize] += 1;
        let down = match kind {
            ErrorKind::Conflict => return,
            ErrorKind::Denied
            | ErrorKind::TooLarge
            | ErrorKind::Refused
            | ErrorKind::Incomplete => false,
            ErrorKind::Unreachable
            | ErrorKind::Interrupted
            | ErrorKind::TokenRefused
            | ErrorKind::Server
            | ErrorKind::Decode => true,
        };
        state.last_error = Some(in_full(error));
        if !down {
            return;
        }
        state.up = false;
        state.away = error.is_outage();
        let first = state.down_since.is_none();
        state.down_since.get_or_insert_with(Moment::now);
        drop(state);
        // A refused token is reported by whoever asked: the store is not down for others.
        if first && kind != ErrorKind::TokenRefused {
            tracing::warn!(error = error as &dyn std::error::Error, "the store is down");
        }
    }

    /// Records that there was no answer for too long a time, of a request that was given up then.
    pub(crate) fn unanswered(&self) {
        let mut state = self.lock();
        (state.up, state.away) = (false, true);
        state.down_since.get_or_insert_with(Moment::now);
        state.last_error = Some("it does not answer".to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, HealthView> {
        // Each update leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn error(status: u16) -> StoreError {
        StoreError::from_answer("x".into(), StatusCode::from_u16(status).unwrap(), b"text")
    }

    #[test]
    fn down_from_the_first_failure_until_contact() {
        let health = StoreHealth::default();
        assert!(!health.view().up && health.view().down_since.is_none());
        health.contact();
        assert!(health.view().up);
        health.failure(&error(500));
        let since = health.view().down_since.unwrap();
        health.failure(&error(500));
        let view = health.view();
        assert!(!view.up);
        assert_eq!(view.down_since, Some(since));
        assert!(view.errors().any(|(k, n)| k == ErrorKind::Server && n == 2));
        health.contact();
        let view = health.view();
        assert!(view.up && view.down_since.is_none() && view.last_error.is_some());
    }

    #[test]
    fn a_denied_key_is_counted_and_not_an_outage() {
        let health = StoreHealth::default();
        health.contact();
        health.failure(&error(403));
        let view = health.view();
        assert!(view.up);
        assert!(view.errors().any(|(k, n)| k == ErrorKind::Denied && n == 1));
    }
}
