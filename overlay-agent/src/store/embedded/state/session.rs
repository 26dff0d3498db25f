//! Sessions: who may hold locks, and what becomes of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SessionId;

/// No lock delay is longer, whatever a session asks for. Consul's value.
pub(super) const MAX_LOCK_DELAY: Duration = Duration::from_secs(60);

/// A session as the API shows it and as the disk keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct Session {
    #[serde(rename = "ID")]
    pub(in super::super) id: SessionId,
    pub(in super::super) name: String,
    pub(in super::super) node: String,
    /// Nanoseconds.
    pub(in super::super) lock_delay: u64,
    pub(in super::super) behavior: Behavior,
    /// As the client wrote it.
    #[serde(rename = "TTL")]
    pub(in super::super) ttl: String,
    pub(in super::super) node_checks: Option<Vec<String>>,
    /// Always null: there are no services here.
    pub(in super::super) service_checks: Option<Vec<String>>,
    pub(in super::super) create_index: u64,
    pub(in super::super) modify_index: u64,
    /// `ttl` as a time; none: the session lives until it is destroyed.
    #[serde(skip)]
    pub(in super::super) lifetime: Option<Duration>,
}

/// What happens to a session's locks when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Behavior {
    /// The keys are unlocked.
    Release,
    /// The keys are deleted.
    Delete,
}

impl Session {
    /// How long the session lives without being renewed: twice its TTL, as in Consul, so that a
    /// client that renews every TTL survives a lost request.
    pub(super) fn grace(&self) -> Option<Duration> {
        self.lifetime.map(|ttl| ttl * 2)
    }

    /// For how long nobody can lock what this session held.
    pub(super) fn effective_lock_delay(&self) -> Duration {
        Duration::from_nanos(self.lock_delay).min(MAX_LOCK_DELAY)
    }
}
