//! Keeping a session alive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::client::{Client, SessionId};
use super::error::{StoreError, in_full};

/// A session that is renewed in the background and replaced when the store lost it. Dropping it
/// leaves the session to expire; [`end`](Self::end) releases its locks at once.
#[derive(Debug)]
pub struct Session {
    client: Client,
    current: watch::Receiver<Option<SessionId>>,
    refused: watch::Receiver<Option<String>>,
    doubt: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Session {
    /// Starts the task. `resume` is a session of an earlier run of the same agent: while it
    /// lives, so do its locks, which a new session would have to wait for.
    pub fn spawn(client: Client, name: String, ttl: Duration, resume: Option<SessionId>) -> Self {
        let (sender, current) = watch::channel(None);
        let (refuse, refused) = watch::channel(None);
        let doubt = Arc::new(Notify::new());
        let told = Told {
            current: sender,
            refused: refuse,
            doubt: Arc::clone(&doubt),
        };
        let task = tokio::spawn(keep(client.clone(), name, ttl, resume, told));
        Self {
            client,
            current,
            refused,
            doubt,
            task,
        }
    }

    /// The session that the store confirmed last; `None` before the first and after a loss. While
    /// the store is unreachable it stays: the store may still hold it.
    pub fn current(&self) -> Option<SessionId> {
        self.current.borrow().clone()
    }

    /// Tells of every new session, whose locks have to be taken anew.
    pub fn subscribe(&self) -> watch::Receiver<Option<SessionId>> {
        self.current.clone()
    }

    /// Tells why the store gives no session: what waiting does not mend, e.g. a token without the
    /// right to sessions. `None` while it gives one or does not answer.
    pub fn refusals(&self) -> watch::Receiver<Option<String>> {
        self.refused.clone()
    }

    /// Asks the store whether it still has the session, now instead of in half its time to live.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Stops renewing and ends the session in the store.
    pub async fn end(self) -> Result<(), StoreError> {
        self.task.abort();
        match self.current() {
            Some(id) => self.client.session_destroy(&id).await,
            None => Ok(()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whom to tell, and who may be in a hurry.
struct Told {
    current: watch::Sender<Option<SessionId>>,
    refused: watch::Sender<Option<String>>,
    doubt: Arc<Notify>,
}

async fn keep(client: Client, name: String, ttl: Duration, resume: Option<SessionId>, told: Told) {
    let mut backoff = Backoff::new(Duration::from_millis(200), ttl / 4);
    let mut held = resume;
    loop {
        let confirmed = match &held {
            Some(id) => client
                .session_renew(id)
                .await
                .map(|alive| alive.then(|| id.clone())),
            None => client.session_create(&name, ttl).await.map(Some),
        };
        match confirmed {
            Ok(Some(id)) => {
                set(&told.refused, None);
                set(&told.current, Some(id.clone()));
                held = Some(id);
                backoff.reset();
                tokio::select! {
                    () = tokio::time::sleep(ttl / 2) => {}
                    () = told.doubt.notified() => {}
                }
            }
            Ok(None) => {
                if let Some(id) = held.take() {
                    tracing::info!(session = %id, "the store lost the session");
                }
                set(&told.current, None);
            }
            Err(error) => {
                // An outage is the client's health's to report.
                let refusal = (!error.is_outage()).then(|| in_full(&error));
                set(&told.refused, refusal);
                backoff.wait().await;
            }
        }
    }
}

/// Tells those who listen, if it is news.
fn set<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|shown| {
        let new = *shown != value;
        *shown = value;
        new
    });
}
