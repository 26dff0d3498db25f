//! Telling the other hosts of this one.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
use super::problem::Problem;
use crate::store::client::SessionId;
use crate::store::error::in_full;
use crate::store::schema::{Extra, NodeRecord, Schema, unix_now};
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
    match tokio::time::timeout(FAREWELL, say_stopped(&agent, &session)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!("the other hosts are not told that this agent was stopped: {error}");
        }
        Err(_) => tracing::warn!(
            "the other hosts are not told that this agent was stopped: the store does not answer"
        ),
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

/// Tells the other hosts that the data path goes on without its agent: else they would take this host for dead.
async fn say_stopped(agent: &Agent, session: &Session) -> Result<(), RegistryError> {
    let Some(id) = session.current().filter(|_| *agent.registered.borrow()) else {
        return Ok(());
    };
    let record = NodeRecord {
        stopped: Some(unix_now()),
        ..record(agent)
    };
    agent.registry.register_node(agent.node, &record, &id).await
}

/// What the other hosts are told of this one.
fn record(agent: &Agent) -> NodeRecord {
    NodeRecord {
        name: agent.name.clone(),
        vteps: agent.vteps.borrow().addresses(),
        port: agent.config.port,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema: Schema::CURRENT.version,
        agent: true,
        stopped: None,
        extra: Extra::new(),
    }
}

/// Makes the folders of a fresh store. Waits while the store is unreachable.
async fn prepare(agent: &Agent, prepared: &watch::Sender<bool>) {
    while let Err(error) = agent.registry.init().await {
        let unreachable =
            matches!(&error, RegistryError::Store(error) if error.kind() == ErrorKind::Unreachable);
        note(agent, Some(in_full(&error)));
        match error {
            _ if unreachable => sleep(RETRY_UNREACHABLE).await,
            // What is in there may mean something else.
            RegistryError::SchemaVersion { .. } => sleep(RETRY).await,
            // A store that refuses to be written may still be read.
            _ => {
                prepared.send_replace(true);
                sleep(RETRY).await;
            }
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
    let mut sessions = session.subscribe();
    let mut refusals = session.refusals();
    let mut vteps = agent.vteps.subscribe();
    let mut claim = Claim::default();
    loop {
        vteps.borrow_and_update();
        let current = sessions.borrow_and_update().clone();
        let refusal = refusals.borrow_and_update().clone();
        let registered = match &current {
            Some(id) => {
                // With it the next run takes up the lock that this one holds.
                if let Err(error) = fs::write(file, id.as_str()) {
                    tracing::warn!("cannot keep the session in {}: {error}", file.display());
                }
                claim.register(agent, id).await.map(|()| true)
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
            // The store has lost the session, or somebody took the lock off. The other hosts wait for this one.
            () = agent.unlocked.notified() => {
                session.doubt();
                true
            }
            () = sleep(RETRY), if failed => true,
        };
        if !alive {
            return;
        }
    }
}

/// This host's claim to its node id.
#[derive(Debug, Default)]
struct Claim {
    /// It has held the lock in this run.
    proven: bool,
    /// Since when the record is seen to be another host's, and free.
    foreign: Option<Instant>,
}

impl Claim {
    /// Registers this host; or says why not, or not yet.
    ///
    /// A record without a lock and with none of this host's addresses is of this host as it was before its
    /// addresses changed, or of one that this is a copy of, which has lost its session for a moment. That one gets
    /// the grace period to come back.
    async fn register(&mut self, agent: &Agent, session: &SessionId) -> Result<(), String> {
        if !self.proven {
            let node = agent.registry.node(agent.node).await;
            let node = node.map_err(|error| in_full(&error))?;
            let own = *agent.vteps.borrow();
            let foreign = node.filter(|node| {
                node.session.is_none() && !node.record.vteps.iter().any(|ip| own.contains(*ip))
            });
            if let Some(node) = foreign {
                let since = *self.foreign.get_or_insert_with(Instant::now);
                let left = agent.config.node_grace.saturating_sub(since.elapsed());
                if !left.is_zero() {
                    return Err(format!(
                        "its node id {} was last used by a host with other addresses ({}), which \
                         gets {} s more to come back; if this host's state directory is a copy of that \
                         one's, remove node-id and session from it",
                        agent.node,
                        join(&node.record.vteps),
                        left.as_secs() + 1
                    ));
                }
            } else {
                self.foreign = None;
            }
        }
        let registered = agent
            .registry
            .register_node(agent.node, &record(agent), session)
            .await;
        registered.map_err(|error| in_full(&error))?;
        self.proven = true;
        Ok(())
    }
}

fn join(addresses: &[IpAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    addresses.join(", ")
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
