//! The operations on keys, and how they fail.

use thiserror::Error;

use super::{Key, UuidError};

/// What to do with a key; the verbs of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Verb {
    Set,
    /// Set if the key's `ModifyIndex` is the given one; 0: if there is no such key.
    Cas,
    /// Set and take the lock.
    Lock,
    /// Set and give the lock back.
    Unlock,
    Get,
    GetTree,
    CheckIndex,
    CheckSession,
    CheckNotExists,
    Delete,
    DeleteTree,
    DeleteCas,
    /// A verb there is none of; an error of the operation, not of the request.
    Unknown(String),
}

impl Verb {
    /// The verb a transaction names so.
    pub(in super::super) fn from_name(name: &str) -> Self {
        match name {
            "set" => Self::Set,
            "cas" => Self::Cas,
            "lock" => Self::Lock,
            "unlock" => Self::Unlock,
            "get" => Self::Get,
            "get-tree" => Self::GetTree,
            "check-index" => Self::CheckIndex,
            "check-session" => Self::CheckSession,
            "check-not-exists" => Self::CheckNotExists,
            "delete" => Self::Delete,
            "delete-tree" => Self::DeleteTree,
            "delete-cas" => Self::DeleteCas,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// Whether the operation can alter anything.
    pub(in super::super) fn is_write(&self) -> bool {
        match self {
            Self::Set
            | Self::Cas
            | Self::Lock
            | Self::Unlock
            | Self::Delete
            | Self::DeleteTree
            | Self::DeleteCas => true,
            Self::Get
            | Self::GetTree
            | Self::CheckIndex
            | Self::CheckSession
            | Self::CheckNotExists
            | Self::Unknown(_) => false,
        }
    }
}

/// One operation on one key (or prefix). Which fields count depends on the verb.
#[derive(Debug, Clone)]
pub(in super::super) struct Op {
    pub(in super::super) verb: Verb,
    pub(in super::super) key: Key,
    pub(in super::super) value: Vec<u8>,
    pub(in super::super) flags: u64,
    pub(in super::super) index: u64,
    /// As the client wrote it: only locking needs it to be a session that exists.
    pub(in super::super) session: String,
}

/// Why an operation was not done. The texts are Consul's: clients tell cases apart by them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in super::super) enum OpError {
    #[error("Must provide key")]
    MissingKey,
    #[error("missing session")]
    MissingSession,
    #[error("failed session lookup: index error: {0}")]
    SessionLookup(UuidError),
    #[error("invalid session {0:?}")]
    InvalidSession(String),
    #[error("failed to set key {0:?}, index is stale")]
    StaleSet(String),
    #[error("failed to delete key {0:?}, index is stale")]
    StaleDelete(String),
    #[error("failed to lock key {0:?}, lock is already held")]
    LockHeld(String),
    #[error("failed to lock key {0:?} due to lock delay")]
    LockDelay(String),
    #[error("failed to unlock key {0:?}, lock isn't held, or is held by another session")]
    LockNotHeld(String),
    #[error("key {0:?} doesn't exist")]
    NoKey(String),
    #[error("key {0:?} exists")]
    KeyExists(String),
    #[error("failed to check index, key {0:?} doesn't exist")]
    IndexOfNoKey(String),
    #[error("failed index check for key {key:?}, current modify index {current} != {wanted}")]
    IndexDiffers {
        key: String,
        current: u64,
        wanted: u64,
    },
    #[error("failed to check session, key {0:?} doesn't exist")]
    SessionOfNoKey(String),
    #[error("failed session check for key {key:?}, current session {current:?} != {wanted:?}")]
    SessionDiffers {
        key: String,
        current: String,
        wanted: String,
    },
    #[error("unknown KV verb {0:?}")]
    UnknownVerb(String),
}

impl OpError {
    /// Whether the request was fine and the state says no: `false` outside of a transaction.
    pub(in super::super) fn is_refusal(&self) -> bool {
        match self {
            Self::StaleSet(_)
            | Self::StaleDelete(_)
            | Self::LockHeld(_)
            | Self::LockDelay(_)
            | Self::LockNotHeld(_) => true,
            Self::MissingKey
            | Self::MissingSession
            | Self::SessionLookup(_)
            | Self::InvalidSession(_)
            | Self::NoKey(_)
            | Self::KeyExists(_)
            | Self::IndexOfNoKey(_)
            | Self::IndexDiffers { .. }
            | Self::SessionOfNoKey(_)
            | Self::SessionDiffers { .. }
            | Self::UnknownVerb(_) => false,
        }
    }
}
