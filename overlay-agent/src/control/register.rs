//! Telling the other hosts of this one.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
use super::problem::Problem;
use crate::store::client::SessionId;
use crate::store::error::in_full;
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
pub(super) async fn run(
    agent: Arc<Agent>,
    prepared: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    tokio::select! {
        () = prepare(&agent, &prepared) => {}
        () = shutdown.cancelled() => return,
    }
    let file = agent.config.state_dir.join("session");
    let resume = tokio::select! {
        resume = earlier_session(&agent, &file) => resume,
        () = shutdown.cancelled() => return,
    };
    let client = agent.registry.client().clone();
    let name = format!("overlay {}", agent.name);
    let session = Session::spawn(client, name, TTL, resume);
    tokio::select! {
        () = keep_registered(&agent, &session, &file) => {}
        () = shutdown.cancelled() => {}
    }
    if session.current().is_none() {
        // One of an earlier run may live yet, and its file is the way to take it up again.
        return;
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
async fn prepare(agent: &Agent, prepared: &watch::Sender<bool>) {
    while let Err(error) = agent.registry.init().await {
        let unreachable =
            matches!(&error, RegistryError::Store(error) if error.kind() == ErrorKind::Unreachable);
        note(agent, Some(in_full(&error)));
        if unreachable {
            sleep(RETRY_UNREACHABLE).await;
        } else {
            // A store that refuses to be written may still be read.
            prepared.send_replace(true);
            sleep(RETRY).await;
        }
    }
    prepared.send_replace(true);
    note(agent, None);
}

/// The session of an earlier run, if the store knows it as this very host's: a copy of the state
/// directory on another machine has it too, and both would renew the one lock.
async fn earlier_session(agent: &Agent, file: &Path) -> Option<SessionId> {
    let id = fs::read_to_string(file).ok()?;
    let id = Some(SessionId::new(id.trim()));
    loop {
        match agent.registry.node(agent.node).await {
            Ok(node) => {
                let own = *agent.vteps.borrow();
                let node = node.filter(|node| {
                    node.session == id && node.record.vteps.iter().any(|ip| own.contains(*ip))
                });
                return id.filter(|_| node.is_some());
            }
            Err(error) if error.is_outage() => sleep(RETRY_UNREACHABLE).await,
            // What is wrong will be told by who registers.
            Err(_) => return None,
        }
    }
}

async fn keep_registered(agent: &Agent, session: &Session, file: &Path) {
    let mut record = NodeRecord {
        name: agent.name.clone(),
        vteps: Vec::new(),
        port: agent.config.port,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agent: true,
        extra: Extra::new(),
    };
    let mut sessions = session.subscribe();
    let mut refusals = session.refusals();
    let mut vteps = agent.vteps.subscribe();
    loop {
        record.vteps = vteps.borrow_and_update().addresses();
        let current = sessions.borrow_and_update().clone();
        let refusal = refusals.borrow_and_update().clone();
        let registered = match &current {
            Some(id) => {
                // With it the next run takes up the lock that this one holds.
                if let Err(error) = fs::write(file, id.as_str()) {
                    tracing::warn!("cannot keep the session in {}: {error}", file.display());
                }
                let registered = agent.registry.register_node(agent.node, &record, id).await;
                registered.map(|()| true).map_err(|error| in_full(&error))
            }
            None => refusal.clone().map_or(Ok(false), Err),
        };
        let failed = registered.is_err() && current.is_some();
        if registered == Ok(true) {
            agent.witness.registered(agent.node);
        }
        agent.registered.send_replace(registered == Ok(true));
        note(agent, registered.err().or(refusal));
        let alive = tokio::select! {
            changed = sessions.changed() => changed.is_ok(),
            changed = refusals.changed() => changed.is_ok(),
            changed = vteps.changed() => changed.is_ok(),
            // Somebody deleted the record.
            () = agent.witness.node_lost() => true,
            () = sleep(RETRY), if failed => true,
        };
        if !alive {
            return;
        }
    }
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
