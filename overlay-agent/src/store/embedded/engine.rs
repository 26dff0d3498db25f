//! The state, its file and its waiting readers, put together.
//!
//! Writes are one at a time: drafted on the state, committed to the file, applied, announced.
//! Reads never wait for the disk.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use super::disk::Disk;
use super::error::EmbeddedError;
use super::state::{Answer, Changes, Draft, Session, SessionId, State};
use super::waiters::Waiters;

/// How long to leave the disk alone after it refused a write that no client waits for.
const HOUSEKEEPING_RETRY: Duration = Duration::from_secs(30);

/// A running store.
#[derive(Debug)]
pub(super) struct Engine {
    state: RwLock<State>,
    /// Held for the length of a write; gone once the store has stopped.
    disk: Arc<Mutex<Option<Disk>>>,
    waiters: Waiters,
    /// Rung when a deadline may be nearer than the one that is waited for.
    deadlines_changed: Notify,
    stopping: CancellationToken,
}

/// How long a read may wait for news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// The index the client has seen.
    pub(super) index: u64,
    /// How long to wait for a higher one.
    pub(super) wait: Duration,
}

/// What became of a write.
#[derive(Debug)]
pub(super) enum Written<T, E> {
    /// Done and durable.
    Done(T),
    /// Refused by the state, which is as before.
    Refused(E),
}

impl Engine {
    /// Opens the file and ends the sessions in it, since nobody could renew them.
    ///
    /// # Errors
    /// The file cannot be opened, read or written.
    pub(super) fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let (disk, stored) = Disk::open(path)?;
        let now = Instant::now();
        let mut state = State::restore(stored, now);
        let mut draft = Draft::new(&state, now);
        draft.destroy_all_sessions();
        let changes = draft.finish();
        if !changes.is_empty() {
            disk.store(&changes)?;
            state.apply(&changes, now);
        }
        Ok(Self {
            state: RwLock::new(state),
            disk: Arc::new(Mutex::new(Some(disk))),
            waiters: Waiters::default(),
            deadlines_changed: Notify::new(),
            stopping: CancellationToken::new(),
        })
    }

    /// Answers from the state, at once or, with `patience`, as soon as the index is higher than
    /// what the client has seen. When the patience is over or the store stops, the answer is
    /// what there is.
    pub(super) async fn read<T>(
        &self,
        patience: Option<Patience>,
        read: impl Fn(&State) -> Answer<T>,
    ) -> Answer<T> {
        let Some(Patience { index: seen, wait }) = patience else {
            return read(&self.state());
        };
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        loop {
            let (answer, waiter) = {
                let state = self.state();
                let answer = read(&state);
                if answer.index > seen {
                    return answer;
                }
                let waiter = self.waiters.register(answer.watch.clone());
                (answer, waiter)
            };
            tokio::select! {
                () = waiter.woken() => {}
                () = &mut over => return answer,
                () = self.stopping.cancelled() => return answer,
            }
        }
    }

    /// Does one write, unless `write` refuses.
    ///
    /// The write is finished even if the caller is dropped meanwhile.
    ///
    /// # Errors
    /// The disk refused, or the store has stopped; nothing has changed.
    pub(super) async fn write<T, E>(
        self: &Arc<Self>,
        write: impl FnOnce(&mut Draft<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<Written<T, E>, EmbeddedError>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let disk = self.disk.clone().lock_owned().await;
        let engine = self.clone();
        let task = tokio::task::spawn_blocking(move || engine.write_now(&disk, write));
        // The task ends without a result only when the runtime shuts down or the code is wrong.
        task.await.unwrap_or(Err(EmbeddedError::Stopped))
    }

    /// The blocking part of a write, with the disk in hand.
    fn write_now<T, E>(
        &self,
        disk: &OwnedMutexGuard<Option<Disk>>,
        write: impl FnOnce(&mut Draft<'_>) -> Result<T, E>,
    ) -> Result<Written<T, E>, EmbeddedError> {
        let disk = disk.as_ref().ok_or(EmbeddedError::Stopped)?;
        let now = Instant::now();
        let (done, changes) = {
            let state = self.state();
            let mut draft = Draft::new(&state, now);
            match write(&mut draft) {
                Ok(done) => (done, draft.finish()),
                Err(refusal) => return Ok(Written::Refused(refusal)),
            }
        };
        if !changes.is_empty() {
            disk.store(&changes)?;
            self.state_mut().apply(&changes, now);
            self.announce(&changes);
        }
        Ok(Written::Done(done))
    }

    fn announce(&self, changes: &Changes) {
        self.waiters.wake(changes);
        if changes.sets_deadlines() {
            self.deadlines_changed.notify_one();
        }
    }

    /// Gives a session its full time again; nothing of it is written.
    pub(super) fn renew_session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.state_mut().renew(id, Instant::now())
    }

    /// Ends sessions and reaps tombstones when their time comes. Never returns.
    pub(super) async fn keep_house(self: &Arc<Self>) {
        loop {
            let deadline = self.state().next_deadline();
            let due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.deadlines_changed.notified() => continue,
            }
            let kept = self
                .write(|draft| {
                    draft.keep_house();
                    Ok::<_, std::convert::Infallible>(())
                })
                .await;
            if let Err(err) = kept {
                tracing::error!("end outdated sessions: {err}");
                tokio::time::sleep(HOUSEKEEPING_RETRY).await;
            }
        }
    }

    /// Answers all waiting readers and makes later ones not wait.
    pub(super) fn stop_waiting(&self) {
        self.stopping.cancel();
    }

    /// Returns once [`Engine::stop_waiting`] was called.
    pub(super) async fn stopped_waiting(&self) {
        self.stopping.cancelled().await;
    }

    /// Closes the file; later writes fail.
    ///
    /// # Errors
    /// The file could not be tidied up.
    pub(super) async fn close(&self) -> Result<(), EmbeddedError> {
        match self.disk.lock().await.take() {
            Some(disk) => disk.close(),
            None => Ok(()),
        }
    }

    /// The state to read. A panic while it was locked would be a bug that leaves at worst one
    /// write half visible in memory; the file has all of it.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
