//! A write in the making: the state as it would be, without touching the state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::{
    Changes, Entry, Key, NOTHING_YET, Op, OpError, Session, SessionId, State, TxnResult, Verb,
    under,
};

/// What a write sees and does. All of it happens, by [`State::apply`] of [`Draft::finish`], or,
/// if the draft is dropped, none of it.
#[derive(Debug)]
pub(in super::super) struct Draft<'a> {
    pub(super) base: &'a State,
    pub(super) now: Instant,
    pub(super) changes: Changes,
}

impl<'a> Draft<'a> {
    pub(in super::super) fn new(base: &'a State, now: Instant) -> Self {
        let changes = Changes {
            index: base.index.max(NOTHING_YET) + 1,
            ..Changes::default()
        };
        Self { base, now, changes }
    }

    /// What has to be stored and applied. An index is used up only if a key or a session
    /// changed, so an identical write bumps nothing.
    pub(in super::super) fn finish(self) -> Changes {
        let mut changes = self.changes;
        if changes.kv.is_empty() && changes.sessions.is_empty() {
            changes.index = self.base.index;
        }
        changes
    }

    /// What forbids `op` before any of a transaction's operations is tried.
    ///
    /// # Errors
    /// No key where one is needed, or a lock within the lock delay.
    pub(super) fn precheck(&self, op: &Op) -> Result<(), OpError> {
        if op.key.is_empty() && op.verb != Verb::DeleteTree {
            return Err(OpError::MissingKey);
        }
        if op.verb == Verb::Lock
            && let Some(until) = self.base.lock_delays.get(&op.key)
            && *until > self.now
        {
            return Err(OpError::LockDelay(printable(&op.key)));
        }
        Ok(())
    }

    /// Checks and does one operation on its own.
    ///
    /// # Errors
    /// Why it was not done; then the draft is as before.
    pub(in super::super) fn run_one(&mut self, op: &Op) -> Result<(), OpError> {
        self.precheck(op)?;
        self.run(op).map(drop)
    }

    /// Does one operation and gives what a transaction answers for it: entries with their value
    /// for reads, without it for writes and checks.
    ///
    /// # Errors
    /// Why it was not done; then the draft is as before.
    pub(super) fn run(&mut self, op: &Op) -> Result<Vec<TxnResult>, OpError> {
        let name = || printable(&op.key);
        let current = self.entry(&op.key).cloned();
        let written = match &op.verb {
            Verb::Set => Some(self.put_plain(op)),
            Verb::Cas => {
                let modified = current.map_or(0, |entry| entry.modify_index);
                if modified != op.index {
                    return Err(OpError::StaleSet(name()));
                }
                Some(self.put_plain(op))
            }
            Verb::Lock => Some(self.lock(op)?),
            Verb::Unlock => Some(self.unlock(op)?),
            Verb::Get => {
                let entry = current.ok_or_else(|| OpError::NoKey(name()))?;
                return Ok(vec![TxnResult::with_value(op.key.clone(), entry)]);
            }
            Verb::GetTree => {
                let entries = self.tree(&op.key).into_iter();
                let results = entries.map(|(key, entry)| TxnResult::with_value(key, entry));
                return Ok(results.collect());
            }
            Verb::CheckIndex => Some(check_index(op, current)?),
            Verb::CheckSession => Some(check_session(op, current)?),
            Verb::CheckNotExists => match current {
                Some(_) => return Err(OpError::KeyExists(name())),
                None => None,
            },
            Verb::Delete => {
                self.delete(&op.key);
                None
            }
            Verb::DeleteTree => {
                self.delete_tree(&op.key);
                None
            }
            Verb::DeleteCas => {
                match current {
                    // Somebody else deleted it: what was wanted is the case.
                    None => {}
                    Some(entry) if entry.modify_index == op.index => self.delete(&op.key),
                    Some(_) => return Err(OpError::StaleDelete(name())),
                }
                None
            }
            Verb::Unknown(verb) => return Err(OpError::UnknownVerb(verb.clone())),
        };
        let results = written.map(|entry| TxnResult::without_value(op.key.clone(), entry));
        Ok(results.into_iter().collect())
    }

    pub(super) fn entry(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        match self.changes.kv.get(key) {
            Some(drafted) => drafted.as_ref(),
            None => self.base.kv.get(key),
        }
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        match self.changes.sessions.get(&id) {
            Some(drafted) => drafted.as_ref(),
            None => self.base.sessions.get(&id),
        }
    }

    /// All entries under `prefix`, with what this draft did to them.
    pub(super) fn tree(&self, prefix: &[u8]) -> BTreeMap<Key, Arc<Entry>> {
        let mut tree: BTreeMap<Key, Arc<Entry>> = under(&self.base.kv, prefix)
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        for (key, drafted) in under(&self.changes.kv, prefix) {
            match drafted {
                Some(entry) => tree.insert(key.clone(), entry.clone()),
                None => tree.remove(key),
            };
        }
        tree
    }

    /// Writes `content` under `key`. The indexes in `content` are ignored: the entry gets its
    /// own, or stays what it is if nothing would change.
    pub(super) fn put(&mut self, key: &Key, content: Entry) -> Arc<Entry> {
        let create_index = match self.entry(key) {
            Some(entry) if entry.same_content(&content) => return entry.clone(),
            Some(entry) => entry.create_index,
            None => self.changes.index,
        };
        let entry = Arc::new(Entry {
            create_index,
            modify_index: self.changes.index,
            ..content
        });
        self.changes.kv.insert(key.clone(), Some(entry.clone()));
        entry
    }

    /// A write that is no locking: the lock stays with its holder, and the lock index is lost.
    fn put_plain(&mut self, op: &Op) -> Arc<Entry> {
        let content = Entry {
            value: op.value.clone(),
            flags: op.flags,
            session: self.entry(&op.key).and_then(|entry| entry.session),
            ..Entry::default()
        };
        self.put(&op.key, content)
    }

    pub(super) fn delete(&mut self, key: &Key) {
        if self.entry(key).is_some() {
            self.changes.kv.insert(key.clone(), None);
            self.changes.tombstones.insert(key.clone());
        }
    }

    /// Deletes a prefix. One tombstone stands for all of it; for the empty prefix none is
    /// needed, as the index of everything rises anyway.
    fn delete_tree(&mut self, prefix: &Key) {
        let doomed = self.tree(prefix);
        if doomed.is_empty() {
            return;
        }
        let deletions = doomed.into_keys().map(|key| (key, None));
        self.changes.kv.extend(deletions);
        if !prefix.is_empty() {
            self.changes.tombstones.insert(prefix.clone());
        }
    }
}

fn check_index(op: &Op, current: Option<Arc<Entry>>) -> Result<Arc<Entry>, OpError> {
    let key = printable(&op.key);
    let Some(entry) = current else {
        return Err(OpError::IndexOfNoKey(key));
    };
    if entry.modify_index == op.index {
        return Ok(entry);
    }
    Err(OpError::IndexDiffers {
        key,
        current: entry.modify_index,
        wanted: op.index,
    })
}

fn check_session(op: &Op, current: Option<Arc<Entry>>) -> Result<Arc<Entry>, OpError> {
    let key = printable(&op.key);
    let Some(entry) = current else {
        return Err(OpError::SessionOfNoKey(key));
    };
    let current = entry.session.map_or_else(String::new, |id| id.to_string());
    if current == op.session {
        return Ok(entry);
    }
    Err(OpError::SessionDiffers {
        key,
        current,
        wanted: op.session.clone(),
    })
}

/// A key for an error text.
pub(super) fn printable(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
