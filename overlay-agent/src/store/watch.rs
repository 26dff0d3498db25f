//! Following one prefix of the store.

mod members;
#[cfg(test)]
mod tests;
mod witness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::client::{Answer, Client, KvPair};
use super::error::{StoreError, in_full};
use super::schema::Keys;
pub use members::{Change, MembersWatch, NodeMembers};
pub use witness::Witness;

/// How long one blocking query waits.
const WAIT: Duration = Duration::from_secs(60);
/// Changes that follow each other this fast are read together.
const SETTLE: Duration = Duration::from_millis(30);

/// Everything under a prefix, in the order of the keys, from a read that was complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub entries: Vec<KvPair>,
    /// Consul's index of the read.
    pub index: u64,
}

/// Follows one folder; idle, it is one blocking query.
///
/// The store's answers are not taken at their word: a return is not a change, an index may go
/// backwards, and keys that are missing may be hidden from a token that lost its rights. Only
/// what is different, and complete as far as the [`Witness`] tells, comes out.
#[derive(Debug)]
pub struct PrefixWatch {
    client: Client,
    keys: Keys,
    witness: Arc<Witness>,
    /// The folder's own key, which keeps the prefix from being empty.
    folder: String,
    settle: Duration,
    /// What to block on; `None` reads at once.
    index: Option<u64>,
    last: Option<Arc<Snapshot>>,
    changed: bool,
    /// Answers in a row that told nothing.
    early: u32,
    /// The answer before was an old one.
    doubted: bool,
    backoff: Backoff,
    failing: bool,
    trouble: watch::Sender<Option<String>>,
}

/// What to do with an answer, seen from its index alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Use,
    /// Its state may be an old one: read without an index.
    ReadAgain,
}

impl PrefixWatch {
    /// `folder` is one of `keys`' folders, e.g. [`Keys::networks`].
    pub fn new(client: Client, keys: &Keys, folder: String) -> Self {
        Self {
            client,
            keys: keys.clone(),
            witness: Arc::default(),
            folder,
            settle: SETTLE,
            index: None,
            last: None,
            changed: false,
            early: 0,
            doubted: false,
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(8)),
            failing: false,
            trouble: watch::Sender::new(None),
        }
    }

    /// What has to be readable, beside the sentinel, before anything counts as deleted.
    #[must_use]
    pub fn with_witness(mut self, witness: Arc<Witness>) -> Self {
        self.witness = witness;
        self
    }

    /// How long to let changes gather before the next read: the fewest milliseconds between two
    /// reads of a busy folder.
    #[must_use]
    pub fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Waits for the first snapshot, then for each that differs from the one before. Goes on
    /// trying while the store is unreachable. Cancel-safe.
    pub async fn next(&mut self) -> Arc<Snapshot> {
        loop {
            match self.poll().await {
                Ok(Some(snapshot)) => return snapshot,
                Ok(None) => {}
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// Runs the watch as a task for as long as the handle lives.
    pub fn spawn(self) -> WatchHandle {
        self.spawn_after(watch::Sender::new(true).subscribe())
    }

    /// The same, once the store is `prepared`.
    pub fn spawn_after(mut self, mut prepared: watch::Receiver<bool>) -> WatchHandle {
        let (sender, latest) = watch::channel(None);
        let trouble = self.trouble.subscribe();
        let task = tokio::spawn(async move {
            if prepared.wait_for(|is| *is).await.is_err() {
                return;
            }
            loop {
                let snapshot = self.next().await;
                if sender.send(Some(snapshot)).is_err() {
                    return;
                }
            }
        });
        WatchHandle {
            latest,
            trouble,
            task,
        }
    }

    async fn poll(&mut self) -> Result<Option<Arc<Snapshot>>, StoreError> {
        if self.changed {
            tokio::time::sleep(self.settle).await;
            self.changed = false;
        }
        let asked = Instant::now();
        let answer = match self.index {
            None => self.client.list(&self.folder).await?,
            Some(index) => self.client.list_blocking(&self.folder, index, WAIT).await?,
        };
        if judge(self.index, answer.index, asked.elapsed() < WAIT) == Judgement::ReadAgain {
            self.index = None;
            self.early += 1;
            // A store that always answers so must not be asked in a tight loop.
            if self.early > 2 {
                self.backoff.wait().await;
            }
            return Ok(None);
        }
        if self.index.is_some() {
            self.early = 0;
        }
        let unchanged = |last: &Arc<Snapshot>| last.entries == answer.value;
        if self.last.as_ref().is_some_and(unchanged) {
            self.index = Some(answer.index);
            self.recovered();
            return Ok(None);
        }
        let is_old = |last: &Arc<Snapshot>| answer.index < last.index;
        let is_old = self.index.is_none() && self.last.as_ref().is_some_and(is_old);
        // Of a server that is behind, or a store that was set back, which says the same again.
        if is_old && !std::mem::replace(&mut self.doubted, true) {
            self.backoff.wait().await;
            return Ok(None);
        }
        let answer = self.confirm(answer).await?;
        self.index = Some(answer.index);
        self.recovered();
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.entries == answer.value)
        {
            return Ok(None);
        }
        let snapshot = Arc::new(Snapshot {
            entries: answer.value,
            index: answer.index,
        });
        self.last = Some(Arc::clone(&snapshot));
        self.changed = true;
        Ok(Some(snapshot))
    }

    /// Makes sure that what is missing was deleted and is not hidden. A token without rights gets
    /// an empty or shorter list and no sign of it; but it does not get the witness either.
    async fn confirm(
        &self,
        answer: Answer<Vec<KvPair>>,
    ) -> Result<Answer<Vec<KvPair>>, StoreError> {
        let has_folder = answer.value.iter().any(|pair| pair.key == self.folder);
        let lost_none = self
            .last
            .as_ref()
            .is_some_and(|last| keeps_all(&last.entries, &answer.value));
        if has_folder && lost_none {
            return Ok(answer);
        }
        let (client, folder) = (&self.client, &self.folder);
        self.witness.check(client, &self.keys, folder).await?;
        if has_folder {
            return Ok(answer);
        }
        // Deleted by hand, or hidden: a token that may not read it may not write it either. `false`
        // when it is there again.
        client.cas(folder, Vec::new(), 0).await?;
        client.list(folder).await
    }

    async fn failed(&mut self, error: &StoreError) {
        let trouble = (!error.is_outage()).then(|| in_full(error));
        self.trouble.send_replace(trouble);
        if !self.failing {
            self.failing = true;
            tracing::warn!(folder = %self.folder, error = error as &dyn std::error::Error,
                "cannot follow the store; the last state stays");
        }
        // What happened meanwhile, a restore from a backup for one, is only seen by a whole read.
        self.index = None;
        self.backoff.wait().await;
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        self.doubted = false;
        if self.failing {
            self.failing = false;
            self.trouble.send_replace(None);
            tracing::info!(folder = %self.folder, "following the store again");
        }
    }
}

/// A running watch. Dropping it stops the queries.
#[derive(Debug)]
pub struct WatchHandle {
    latest: watch::Receiver<Option<Arc<Snapshot>>>,
    trouble: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl WatchHandle {
    /// The latest snapshot; `None` before the first complete read.
    pub fn latest(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.latest.clone()
    }

    /// Why the folder cannot be followed, when waiting does not mend it; `None` during an outage.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `asked` is the index that was blocked on, `early` whether the answer came before the wait was
/// over. After a restore from a backup a blocked query returns early with *old* data and an
/// unchanged index; tombstone collection sends the index backwards.
fn judge(asked: Option<u64>, got: u64, early: bool) -> Judgement {
    match asked {
        Some(asked) if got < asked || (got == asked && early) => Judgement::ReadAgain,
        Some(_) | None => Judgement::Use,
    }
}

/// Whether every key of `before` is in `after`. Both are in order.
fn keeps_all(before: &[KvPair], after: &[KvPair]) -> bool {
    let mut after = after.iter();
    before
        .iter()
        .all(|old| after.by_ref().any(|new| new.key == old.key))
}
