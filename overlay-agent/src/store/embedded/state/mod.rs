//! What the store holds, in memory, and how it changes: no HTTP, no disk, no clock of its own.
//!
//! A write builds a [`Draft`] on top of the [`State`], the draft's [`Changes`] go to disk, and
//! only then [`State::apply`] makes them visible. Reads answer with the index they are valid at
//! and with the [`Watch`] that says which later change could alter the answer.
//!
//! The rules are those of Consul 1.8: an entry's `ModifyIndex` is the index of the write that
//! last altered it, a write that alters nothing has no index, and a deletion leaves a tombstone
//! so that the index of its prefix still rises.

mod changes;
mod draft;
mod entry;
mod lock;
mod op;
mod session;
mod txn;
mod uuid;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use self::changes::Changes;
pub(super) use self::draft::Draft;
pub(super) use self::entry::{Entry, Key};
pub(super) use self::op::{Op, OpError, Verb};
pub(super) use self::session::{Behavior, Session};
pub(super) use self::txn::{TxnError, TxnResult, run as run_txn};
pub(super) use self::uuid::{SessionId, UuidError};
pub(super) use self::watch::Watch;

/// How long a tombstone stays. A client that saw the prefix before the deletion and asks again
/// within that time is told of it by a higher index; a later one by the index of the last change
/// anywhere, which may be lower than what it saw. Consul's value.
const TOMBSTONE_TTL: Duration = Duration::from_secs(15 * 60);

/// Tombstones due within this time go together, in one write. Consul's granularity.
const TOMBSTONE_SLACK: Duration = Duration::from_secs(30);

/// The index of a store in which nothing was ever written. No write has it: whoever waits for a
/// higher one must see the first write. And it is not 0, since a client that sends 0 never waits.
const NOTHING_YET: u64 = 1;

/// A read's result, valid until something that `watch` covers changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer<T> {
    /// What `X-Consul-Index` says; at least [`NOTHING_YET`].
    pub(super) index: u64,
    /// Which changes can alter this answer.
    pub(super) watch: Watch,
    /// What was read.
    pub(super) value: T,
}

/// Everything the store knows.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The last index given out.
    index: u64,
    /// Index of the last change of any key; the index of a read that found nothing.
    kv_index: u64,
    /// Index of the last change of any session.
    session_index: u64,
    kv: BTreeMap<Key, Arc<Entry>>,
    tombstones: BTreeMap<Key, Tombstone>,
    sessions: BTreeMap<SessionId, Arc<Session>>,
    /// When each session with a TTL ends unless it is renewed.
    deadlines: BTreeMap<SessionId, Instant>,
    /// Until when a key cannot be locked, because the session that held it died.
    lock_delays: BTreeMap<Key, Instant>,
}

/// What is left of a deleted key, or of a deleted prefix.
#[derive(Debug, Clone, Copy)]
struct Tombstone {
    /// Index of the deletion.
    index: u64,
    /// When it was made, or read from disk.
    since: Instant,
}

/// What the disk holds of a [`State`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) index: u64,
    pub(super) kv_index: u64,
    pub(super) session_index: u64,
    pub(super) kv: BTreeMap<Key, Arc<Entry>>,
    pub(super) tombstones: BTreeMap<Key, u64>,
    pub(super) sessions: BTreeMap<SessionId, Arc<Session>>,
}

impl State {
    /// Takes up what was stored. Sessions are among it only so that the caller can end them
    /// (see [`Draft::destroy_all_sessions`]): no client renewed them while nothing was running.
    pub(super) fn restore(stored: Stored, now: Instant) -> Self {
        let Stored {
            index,
            kv_index,
            session_index,
            kv,
            tombstones,
            sessions,
        } = stored;
        Self {
            index,
            kv_index,
            session_index,
            kv,
            tombstones: tombstones
                .into_iter()
                .map(|(key, index)| (key, Tombstone { index, since: now }))
                .collect(),
            sessions,
            deadlines: BTreeMap::new(),
            lock_delays: BTreeMap::new(),
        }
    }

    /// One key. Absent: the answer carries the index of the last change anywhere, and so any
    /// later change ends a wait for it.
    pub(super) fn get(&self, key: &[u8]) -> Answer<Option<Arc<Entry>>> {
        match self.kv.get(key) {
            Some(entry) => Answer {
                index: entry.modify_index,
                watch: Watch::Key(key.into()),
                value: Some(entry.clone()),
            },
            None => Answer {
                index: self.kv_index.max(NOTHING_YET),
                watch: Watch::AnyKey,
                value: None,
            },
        }
    }

    /// All keys with `prefix`, in byte order. The index is the highest of the entries and of the
    /// tombstones there; with neither, or with an empty prefix, that of the last change anywhere.
    pub(super) fn list(&self, prefix: &[u8]) -> Answer<Vec<(Key, Arc<Entry>)>> {
        let value: Vec<(Key, Arc<Entry>)> = under(&self.kv, prefix)
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        let index = if prefix.is_empty() {
            None
        } else {
            let entries = value.iter().map(|(_, entry)| entry.modify_index);
            let tombstones = under(&self.tombstones, prefix).map(|(_, stone)| stone.index);
            entries.chain(tombstones).max()
        };
        match index {
            Some(index) => Answer {
                index,
                watch: Watch::Prefix(prefix.into()),
                value,
            },
            None => Answer {
                index: self.kv_index.max(NOTHING_YET),
                watch: Watch::AnyKey,
                value,
            },
        }
    }

    /// One session, if it is alive.
    pub(super) fn session(&self, id: SessionId) -> Answer<Option<Arc<Session>>> {
        self.session_answer(self.sessions.get(&id).cloned())
    }

    /// All sessions, by id.
    pub(super) fn sessions(&self) -> Answer<Vec<Arc<Session>>> {
        self.session_answer(self.sessions.values().cloned().collect())
    }

    fn session_answer<T>(&self, value: T) -> Answer<T> {
        Answer {
            index: self.session_index.max(NOTHING_YET),
            watch: Watch::Sessions,
            value,
        }
    }

    /// Gives a session with a TTL its full time again. `None`: there is no such session.
    pub(super) fn renew(&mut self, id: SessionId, now: Instant) -> Option<Arc<Session>> {
        let session = self.sessions.get(&id)?.clone();
        self.arm(&session, now);
        Some(session)
    }

    fn arm(&mut self, session: &Session, now: Instant) {
        if let Some(grace) = session.grace() {
            self.deadlines.insert(session.id, now + grace);
        }
    }

    /// Makes `changes` visible.
    pub(super) fn apply(&mut self, changes: &Changes, now: Instant) {
        self.index = self.index.max(changes.index);
        if changes.touches_keys() {
            self.kv_index = changes.index;
        }
        if !changes.sessions.is_empty() {
            self.session_index = changes.index;
        }
        for (key, entry) in &changes.kv {
            match entry {
                Some(entry) => self.kv.insert(key.clone(), entry.clone()),
                None => self.kv.remove(key),
            };
        }
        for key in &changes.tombstones {
            let stone = Tombstone {
                index: changes.index,
                since: now,
            };
            self.tombstones.insert(key.clone(), stone);
        }
        for key in &changes.reaped {
            self.tombstones.remove(key);
        }
        for (id, session) in &changes.sessions {
            match session {
                Some(session) => {
                    self.sessions.insert(*id, session.clone());
                    self.arm(session, now);
                }
                None => {
                    self.sessions.remove(id);
                    self.deadlines.remove(id);
                }
            }
        }
        self.lock_delays.retain(|_, until| *until > now);
        for (key, delay) in &changes.lock_delays {
            self.lock_delays.insert(key.clone(), now + *delay);
        }
    }

    /// When [`Draft::keep_house`] next has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let stones = self.tombstones.values().map(|stone| stone.since);
        let reaping = stones.min().map(|since| since + TOMBSTONE_TTL);
        let expiry = self.deadlines.values().min().copied();
        expiry.into_iter().chain(reaping).min()
    }

    /// The sessions that were not renewed in time.
    fn expired(&self, now: Instant) -> Vec<SessionId> {
        self.deadlines
            .iter()
            .filter(|(_, deadline)| **deadline <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    /// The tombstones whose time has come, as soon as that of one has.
    fn outdated_tombstones(&self, now: Instant) -> Vec<Key> {
        let age = |stone: &Tombstone| now.saturating_duration_since(stone.since);
        if !self.tombstones.values().any(|s| age(s) >= TOMBSTONE_TTL) {
            return Vec::new();
        }
        self.tombstones
            .iter()
            .filter(|(_, stone)| age(stone) >= TOMBSTONE_TTL - TOMBSTONE_SLACK)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

/// The part of `map` whose keys start with `prefix`.
fn under<'a, V>(
    map: &'a BTreeMap<Key, V>,
    prefix: &'a [u8],
) -> impl Iterator<Item = (&'a Key, &'a V)> {
    use std::ops::Bound;
    map.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

#[cfg(test)]
mod tests;
