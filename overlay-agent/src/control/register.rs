//! Telling the other hosts of this one.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
use super::problem::Problem;
use crate::store::client::SessionId;
use crate::store::schema::{Extra, NodeRecord};
use crate::store::{ErrorKind, RegistryError, Session};

/// Consul ends a session after twice this time at the latest.
const TTL: Duration = Duration::from_secs(30);

/// Pause after a refusal. An unreachable store is waited for by the session.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_UNREACHABLE: Duration = Duration::from_secs(1);

/// How long ending the session may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Prepares the store and keeps this host registered until `shutdown`. `prepared` is told when
/// the store can be followed.
pub(super) async fn run(agent: Arc<Agent>, prepared: Arc<Notify>, shutdown: CancellationToken) {
    tokio::select! {
        () = prepare(&agent, &prepared) => {}
        () = shutdown.cancelled() => return,
    }
    let file = agent.config.state_dir.join("session");
    let resume = fs::read_to_string(&file).ok();
    let resume = resume
        .map(|id| id.trim().to_owned())
        .filter(|id| !id.is_empty());
    let client = agent.registry.client().clone();
    let name = format!("overlay {}", agent.name);
    let session = Session::spawn(client, name, TTL, resume.map(SessionId::new));
    tokio::select! {
        () = keep_registered(&agent, &session, &file) => {}
        () = shutdown.cancelled() => {}
    }
    // The record stays, and with it the endpoints: only the lock goes, so that the next agent of
    // this host takes it at once.
    match tokio::time::timeout(FAREWELL, session.end()).await {
        Ok(Ok(())) => {
            let _ = fs::remove_file(&file);
        }
        Ok(Err(error)) => tracing::warn!("the session ends by itself: {error}"),
        Err(_) => tracing::warn!("the session ends by itself: the store does not answer"),
    }
}

/// Makes the folders of a fresh store. Waits while the store is unreachable.
async fn prepare(agent: &Agent, prepared: &Notify) {
    while let Err(error) = agent.registry.init().await {
        let unreachable =
            matches!(&error, RegistryError::Store(error) if error.kind() == ErrorKind::Unreachable);
        note(agent, Some(text(error)));
        if unreachable {
            sleep(RETRY_UNREACHABLE).await;
        } else {
            // A store that refuses to be written may still be read.
            prepared.notify_one();
            sleep(RETRY).await;
        }
    }
    prepared.notify_one();
    note(agent, None);
}

async fn keep_registered(agent: &Agent, session: &Session, file: &PathBuf) {
    let record = NodeRecord {
        name: agent.name.clone(),
        vteps: vec![agent.underlay.ip.into()],
        port: agent.config.port,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agent: true,
        extra: Extra::new(),
    };
    let mut sessions = session.subscribe();
    let mut refusals = session.refusal();
    loop {
        let current = sessions.borrow_and_update().clone();
        let registered = match &current {
            Some(id) => {
                // With it the next run takes up the lock that this one holds.
                if let Err(error) = fs::write(file, id.as_str()) {
                    tracing::warn!("cannot keep the session in {}: {error}", file.display());
                }
                agent.registry.register_node(agent.node, &record, id).await
            }
            None => Ok(()),
        };
        let failed = registered.is_err();
        let refusal = refusals.borrow_and_update().clone();
        note(agent, registered.err().map(text).or(refusal));
        tokio::select! {
            changed = sessions.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            changed = refusals.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = sleep(RETRY), if failed => {}
        }
    }
}

fn text(error: RegistryError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// Shows why this host is not, or soon no longer, registered.
fn note(agent: &Agent, why: Option<String>) {
    let problem = why.map(Problem::NotRegistered);
    let mut state = agent.state();
    if let Some(problem) = problem
        .as_ref()
        .filter(|p| state.unregistered.as_ref() != Some(p))
    {
        tracing::warn!("{problem}");
    }
    state.unregistered = problem;
}
