//! What was last read of the store, in a file: an agent that starts while the store is away goes on with it.
//!
//! The file is behind what is known by a second at most, and never in the way: what cannot be written or read is
//! reported, and all else goes on without it.

pub(super) mod file;
mod restore;
mod save;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::problem::Problem;
use crate::store::schema::NodeId;
use file::{File, Whose};
pub(super) use restore::Restored;
pub(super) use save::run;

/// The file, for everything in this agent that uses it.
#[derive(Debug)]
pub(super) struct Kept {
    file: Mutex<File>,
    /// For messages.
    path: PathBuf,
    /// Told when there is something to be written.
    wake: Notify,
    /// Told when there is something to tell the store.
    pub(super) queued: Notify,
    /// Why it cannot be used.
    trouble: Mutex<Option<String>>,
}

impl Kept {
    /// Opens nothing yet. `store` and `prefix` are what was read, `node` who has read it.
    pub(super) fn new(state_dir: &Path, store: &str, prefix: &str, node: NodeId) -> Self {
        let path = state_dir.join("snapshot.redb");
        let whose = Whose {
            store: store.to_owned(),
            prefix: prefix.to_owned(),
            node: node.to_string(),
        };
        Self {
            file: Mutex::new(File::new(path.clone(), whose)),
            path,
            wake: Notify::new(),
            queued: Notify::new(),
            trouble: Mutex::default(),
        }
    }

    /// There may be something to be written.
    pub(super) fn tell(&self) {
        self.wake.notify_one();
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let trouble = lock(&self.trouble).clone().map(Problem::NotKept);
        let aside = file::aside(&self.path);
        // As long as it is there: whoever removes it has seen it.
        let aside = aside.exists().then_some(Problem::SetAside(aside));
        trouble.into_iter().chain(aside)
    }

    pub(super) fn file(&self) -> MutexGuard<'_, File> {
        lock(&self.file)
    }

    /// Shows why it cannot be used, and tells it once.
    pub(super) fn note(&self, why: Option<String>) {
        let mut trouble = lock(&self.trouble);
        if *trouble == why {
            return;
        }
        if let Some(why) = &why {
            tracing::warn!("{}", Problem::NotKept(why.clone()));
        } else {
            tracing::info!(file = %self.path.display(), "what is read of the store is kept again");
        }
        *trouble = why;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A transaction that was broken off has changed nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
