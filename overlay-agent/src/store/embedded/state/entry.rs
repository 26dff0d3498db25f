//! One key and what is kept under it.

use std::sync::Arc;

use super::SessionId;

/// A key: bytes, not text, as in Consul (a key need not be UTF-8).
pub(in super::super) type Key = Arc<[u8]>;

/// What a key holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Entry {
    pub(in super::super) value: Vec<u8>,
    /// A number of the client's own.
    pub(in super::super) flags: u64,
    /// How often the key was locked; a plain write sets it back to 0 (sic).
    pub(in super::super) lock_index: u64,
    /// Who holds the lock.
    pub(in super::super) session: Option<SessionId>,
    pub(in super::super) create_index: u64,
    pub(in super::super) modify_index: u64,
}

impl Entry {
    /// Whether writing `self` over `other` would alter nothing.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        self.value == other.value
            && self.flags == other.flags
            && self.lock_index == other.lock_index
            && self.session == other.session
    }
}
