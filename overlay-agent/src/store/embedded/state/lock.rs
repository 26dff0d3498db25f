//! Locks on keys, and the sessions that hold them.

use std::sync::Arc;

use super::draft::printable;
use super::{Behavior, Draft, Entry, Op, OpError, Session, SessionId};

impl Draft<'_> {
    /// Writes a key and locks it for the operation's session; again by the holder is fine.
    pub(super) fn lock(&mut self, op: &Op) -> Result<Arc<Entry>, OpError> {
        let id = self.living_session(&op.session)?;
        let lock_index = match self.entry(&op.key) {
            None => 1,
            Some(entry) => match entry.session {
                Some(holder) if holder == id => entry.lock_index,
                Some(_) => return Err(OpError::LockHeld(printable(&op.key))),
                None => entry.lock_index + 1,
            },
        };
        let content = Entry {
            value: op.value.clone(),
            flags: op.flags,
            lock_index,
            session: Some(id),
            ..Entry::default()
        };
        Ok(self.put(&op.key, content))
    }

    /// Writes a key and gives its lock back. Only the holder can, dead or alive.
    pub(super) fn unlock(&mut self, op: &Op) -> Result<Arc<Entry>, OpError> {
        if op.session.is_empty() {
            return Err(OpError::MissingSession);
        }
        let holds = |entry: &&Arc<Entry>| {
            let holder = entry.session.map(|id| id.to_string());
            holder.as_ref() == Some(&op.session)
        };
        let Some(entry) = self.entry(&op.key).filter(holds) else {
            return Err(OpError::LockNotHeld(printable(&op.key)));
        };
        let content = Entry {
            value: op.value.clone(),
            flags: op.flags,
            lock_index: entry.lock_index,
            ..Entry::default()
        };
        Ok(self.put(&op.key, content))
    }

    fn living_session(&self, text: &str) -> Result<SessionId, OpError> {
        if text.is_empty() {
            return Err(OpError::MissingSession);
        }
        let id: SessionId = text.parse().map_err(OpError::SessionLookup)?;
        match self.session(id) {
            Some(session) => Ok(session.id),
            None => Err(OpError::InvalidSession(text.to_owned())),
        }
    }

    /// Begins a session; its indexes are set here.
    pub(in super::super) fn create_session(&mut self, session: Session) {
        let session = Session {
            create_index: self.changes.index,
            modify_index: self.changes.index,
            ..session
        };
        let id = session.id;
        self.changes.sessions.insert(id, Some(Arc::new(session)));
    }

    /// Ends a session and its locks; nothing happens if there is none.
    pub(in super::super) fn destroy_session(&mut self, id: SessionId) {
        let Some(session) = self.session(id).cloned() else {
            return;
        };
        self.changes.sessions.insert(id, None);
        let delay = session.effective_lock_delay();
        for (key, entry) in self.tree(b"") {
            if entry.session != Some(id) {
                continue;
            }
            match session.behavior {
                Behavior::Release => {
                    let unlocked = Entry {
                        session: None,
                        ..Entry::clone(&entry)
                    };
                    self.put(&key, unlocked);
                }
                Behavior::Delete => self.delete(&key),
            }
            if !delay.is_zero() {
                self.changes.lock_delays.insert(key, delay);
            }
        }
    }

    /// Ends every session: after a restart nobody has renewed any.
    pub(in super::super) fn destroy_all_sessions(&mut self) {
        let ids: Vec<SessionId> = self.base.sessions.keys().copied().collect();
        for id in ids {
            self.destroy_session(id);
        }
    }

    /// What time itself does: ends the sessions that were not renewed, reaps old tombstones.
    pub(in super::super) fn keep_house(&mut self) {
        for id in self.base.expired(self.now) {
            self.destroy_session(id);
        }
        self.changes.reaped = self.base.outdated_tombstones(self.now);
    }
}
