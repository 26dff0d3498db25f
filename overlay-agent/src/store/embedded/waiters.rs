//! The blocked readers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::state::{Changes, Watch};

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: HashMap<u64, (Watch, Arc<Notify>)>,
}

/// A place in the list; leaves it when dropped, as when the client hangs up.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    number: u64,
    notify: Arc<Notify>,
}

impl Waiters {
    /// Begins to wait. Has to be called while the state that was read is still locked, or a
    /// change in between would be missed.
    pub(super) fn register(&self, watch: Watch) -> Waiter<'_> {
        let notify = Arc::new(Notify::new());
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.waiting.insert(number, (watch, notify.clone()));
        Waiter {
            waiters: self,
            number,
            notify,
        }
    }

    /// Wakes those whose answer `changes` may alter.
    pub(super) fn wake(&self, changes: &Changes) {
        for (watch, notify) in self.lock().waiting.values() {
            if watch.is_woken_by(changes) {
                notify.notify_one();
            }
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Returns once something that was watched has changed, also if that was before the call.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiters.lock().waiting.remove(&self.number);
    }
}
