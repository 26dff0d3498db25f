//! What one write does to the state, ready for the disk and for the waiting readers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Entry, Key, Session, SessionId};

/// The effect of one write.
#[derive(Debug, Default)]
pub(in super::super) struct Changes {
    /// The index of this write; unchanged if only tombstones were reaped.
    pub(in super::super) index: u64,
    /// New content by key, `None` for a deletion.
    pub(in super::super) kv: BTreeMap<Key, Option<Arc<Entry>>>,
    /// Keys and prefixes whose deletion must be seen by those who wait.
    pub(in super::super) tombstones: BTreeSet<Key>,
    /// Tombstones that have served their time.
    pub(in super::super) reaped: Vec<Key>,
    /// Sessions made (`Some`) and ended (`None`).
    pub(in super::super) sessions: BTreeMap<SessionId, Option<Arc<Session>>>,
    /// For how long these keys cannot be locked.
    pub(in super::super) lock_delays: BTreeMap<Key, Duration>,
}

impl Changes {
    /// Whether there is nothing to store and nobody to wake.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.kv.is_empty() && self.sessions.is_empty() && self.reaped.is_empty()
    }

    /// Whether a key was written or deleted.
    pub(in super::super) fn touches_keys(&self) -> bool {
        !self.kv.is_empty()
    }

    /// Whether a deadline may have come up that was not there before.
    pub(in super::super) fn sets_deadlines(&self) -> bool {
        !self.sessions.is_empty() || !self.tombstones.is_empty()
    }
}
