//! Keeping a session alive.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::client::{Client, SessionId};
use super::error::{ErrorKind, StoreError};

/// A session that is renewed in the background and replaced when the store lost it. Dropping it
/// leaves the session to expire; [`end`](Self::end) releases its locks at once.
#[derive(Debug)]
pub struct Session {
    client: Client,
    current: watch::Receiver<Option<SessionId>>,
    refusal: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Session {
    /// Starts the task. `resume` is a session of an earlier run of the same agent: while it
    /// lives, so do its locks, which a new session would have to wait for.
    pub fn spawn(client: Client, name: String, ttl: Duration, resume: Option<SessionId>) -> Self {
        let (sender, current) = watch::channel(None);
        let (refused, refusal) = watch::channel(None);
        let task = tokio::spawn(keep(client.clone(), name, ttl, resume, sender, refused));
        Self {
            client,
            current,
            refusal,
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

    /// Why the store refuses to make or renew the session, while it does. An outage is no
    /// refusal: the client's health tells of it.
    pub fn refusal(&self) -> watch::Receiver<Option<String>> {
        self.refusal.clone()
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

async fn keep(
    client: Client,
    name: String,
    ttl: Duration,
    resume: Option<SessionId>,
    current: watch::Sender<Option<SessionId>>,
    refused: watch::Sender<Option<String>>,
) {
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
        let refusal = confirmed
            .as_ref()
            .err()
            .filter(|error| is_refusal(error.kind()));
        refused.send_if_modified(|shown| {
            let new = refusal.map(ToString::to_string);
            let changed = *shown != new;
            *shown = new;
            changed
        });
        match confirmed {
            Ok(Some(id)) => {
                current.send_if_modified(|shown| {
                    let new = shown.as_ref() != Some(&id);
                    *shown = Some(id.clone());
                    new
                });
                held = Some(id);
                backoff.reset();
                tokio::time::sleep(ttl / 2).await;
            }
            Ok(None) => {
                if let Some(id) = held.take() {
                    tracing::info!(session = %id, "the store lost the session");
                }
                current.send_if_modified(|shown| shown.take().is_some());
            }
            Err(_) => backoff.wait().await,
        }
    }
}

/// Whether trying again is in vain until somebody changes something.
fn is_refusal(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Unreachable | ErrorKind::Interrupted | ErrorKind::Server => false,
        ErrorKind::Denied
        | ErrorKind::TokenRefused
        | ErrorKind::Conflict
        | ErrorKind::TooLarge
        | ErrorKind::Refused
        | ErrorKind::Decode
        | ErrorKind::Incomplete => true,
    }
}
