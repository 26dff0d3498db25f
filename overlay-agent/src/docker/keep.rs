//! Keeping Docker's networks and the store's the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::time::sleep;

use super::bind::described;
use super::engine::{Engine, Seen};
use super::error::DockerError;
use super::mirror::{Step, is_in, plan};
use super::table::Entry;
use super::{DRIVER, Docker, lock};
use crate::control::problem::Problem;
use crate::store::RegistryError;
use crate::store::backoff::Backoff;
use crate::store::schema::NetworkRecord;

/// After a step that failed.
const RETRY: Duration = Duration::from_secs(2);

/// How long after a call that failed, and after a daemon was found, Docker is asked what it knows: who was
/// making something at that moment has an answer by then, and Docker lists it. Making an endpoint takes three
/// calls.
const SETTLED: Duration = Duration::from_secs(15);

/// How long `status` tells that a network was removed here and came back.
const KEPT: Duration = Duration::from_secs(60);

/// Follows Docker and the store for as long as the agent runs.
pub(super) async fn run(docker: &Docker) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        match Engine::connect(&docker.socket).await {
            Ok(engine) => {
                backoff.reset();
                // What was there before, and what a daemon has begun that ended at once.
                docker.failed();
                let why = follow(docker, &engine).await;
                docker.note(vec![Problem::Docker(why)]);
            }
            Err(error) => docker.note(vec![Problem::Docker(in_full(error))]),
        }
        backoff.wait().await;
    }
}

pub(super) fn in_full(error: DockerError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// Follows one daemon until it goes away; why it did.
async fn follow(docker: &Docker, engine: &Engine) -> String {
    let mut events = Box::pin(engine.events());
    let mut synced = docker.agent.synced();
    loop {
        synced.mark_unchanged();
        let mut wait = KEPT;
        if docker.agent.is_synced() {
            match pass(docker, engine).await {
                Ok(problems) if problems.is_empty() => docker.note(problems),
                Ok(problems) => {
                    docker.note(problems);
                    wait = RETRY;
                }
                Err(error) => {
                    docker.note(vec![Problem::Docker(in_full(error))]);
                    wait = RETRY;
                }
            }
        }
        if docker.has_unreleased() {
            wait = RETRY;
        }
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(_)) => {}
                Some(Err(error)) => return format!("its events ended: {error}"),
                None => return "its events ended".to_owned(),
            },
            _ = synced.changed() => {}
            () = docker.wake.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

/// One comparison, and what follows from it.
async fn pass(docker: &Docker, engine: &Engine) -> Result<Vec<Problem>, DockerError> {
    let due = docker.take_unreleased();
    let mut problems = Vec::new();
    let compared = compare(docker, engine, due, &mut problems).await;
    if due.is_some() && (compared.is_err() || !problems.is_empty()) {
        // Some of it may be left.
        docker.failed();
    }
    compared.map(|()| problems)
}

async fn compare(
    docker: &Docker,
    engine: &Engine,
    due: Option<Instant>,
    problems: &mut Vec<Problem>,
) -> Result<(), DockerError> {
    let store = docker.agent.networks_in_store();
    let seen = engine.networks().await?;
    // After the list: what is on it has been reserved before.
    let pending = pending(docker, &store, &seen, due.is_some()).await?;
    let steps = plan(&store, &seen, &pending);
    docker.table.change(|entries| {
        entries.retain(|id, _| seen.iter().any(|network| network.id == *id));
    });
    for step in steps {
        if let Err(problem) = carry_out(docker, engine, step).await {
            problems.push(problem);
        }
    }
    let ours = seen.iter().filter(|network| network.driver == DRIVER);
    let ids: Vec<&str> = ours.map(|network| network.id.as_str()).collect();
    docker.members(engine, &ids, due, problems).await
}

/// Ids of networks that were made in Docker and are not in the store yet. When it is `due`, reservations of
/// which Docker knows nothing are given up.
async fn pending(
    docker: &Docker,
    store: &BTreeMap<String, NetworkRecord>,
    seen: &[Seen],
    due: bool,
) -> Result<BTreeSet<String>, DockerError> {
    let unknown = |seen: &Seen| seen.driver == DRIVER && is_in(store, seen).is_none();
    if !due && !seen.iter().any(unknown) {
        return Ok(BTreeSet::new());
    }
    let registry = &docker.agent.registry;
    let reserved = registry.reservations(docker.agent.node).await;
    let mut pending = BTreeSet::new();
    for reservation in reserved.map_err(RegistryError::from)? {
        let id = &reservation.docker;
        let there = seen.iter().any(|network| network.id == *id);
        if due && !there && !docker.making().is_reserving(id) {
            tracing::warn!(network = id, "its making was broken off: its VNI is free");
            registry.unreserve(&reservation).await?;
        } else {
            pending.insert(reservation.docker);
        }
    }
    Ok(pending)
}

async fn carry_out(docker: &Docker, engine: &Engine, step: Step) -> Result<(), Problem> {
    let failed = |name: &str, error: DockerError| Problem::DockerNetwork {
        name: name.to_owned(),
        why: in_full(error),
    };
    match step {
        Step::Note { id, entry } => {
            docker.table.change(|entries| {
                entries.insert(id, entry);
            });
            Ok(())
        }
        Step::Bind(seen) => {
            let bound = bind(docker, &seen).await;
            bound.map_err(|error| failed(&seen.name, error))
        }
        Step::Remove { id, name } => {
            let removed = remove(docker, engine, &id, &name).await;
            removed.map_err(|error| failed(&name, error))
        }
        Step::Create { name } => {
            let Some(network) = docker.network_named(&name) else {
                return Ok(());
            };
            docker.making().twins.insert(name.clone());
            let made = engine.create_twin(&name, &network.record).await;
            docker.making().twins.remove(&name);
            made.map_err(|error| failed(&name, error))?;
            tracing::info!(network = name, "made in Docker, too");
            Ok(())
        }
        Step::Taken { name, driver } => Err(Problem::DockerNameTaken { name, driver }),
    }
}

/// Removes a Docker network that stands for nothing in the store, after a last look there: what is known here
/// may be a moment old.
async fn remove(docker: &Docker, engine: &Engine, id: &str, name: &str) -> Result<(), DockerError> {
    let registry = &docker.agent.registry;
    let networks = registry.networks().await.map_err(RegistryError::from)?;
    let mut made = networks.items.iter();
    if made.any(|network| network.record.options.docker.as_deref() == Some(id)) {
        return Ok(());
    }
    // What Docker then says of it is no user's word.
    docker.table.change(|entries| {
        entries.remove(id);
    });
    engine.remove(id).await?;
    tracing::info!(
        network = name,
        id,
        "removed from Docker: it stands for nothing"
    );
    docker.making().settle(id);
    Ok(registry.unreserve(&docker.reservation(id)).await?)
}

/// Gives a network that Docker has made its name in the store. One that the store refuses for good is
/// removed from Docker at the next comparison.
async fn bind(docker: &Docker, seen: &Seen) -> Result<(), DockerError> {
    let new = described(seen, docker.reservation(&seen.id))?;
    let bound = docker.agent.registry.create_network(&new).await;
    match bound {
        Ok(network) => {
            let entry = Entry::of(&network.name, &network.record, false);
            docker.table.change(|entries| {
                entries.insert(seen.id.clone(), entry);
            });
            docker.agent.echo_network(&network.name).await;
            docker.making().settle(&seen.id);
            tracing::info!(network = network.name, "made in Docker, on all hosts");
            Ok(())
        }
        Err(error) => {
            if !matches!(error, RegistryError::Store(_)) {
                let reservation = docker.reservation(&seen.id);
                docker.agent.registry.unreserve(&reservation).await?;
                docker.wake();
            }
            Err(error.into())
        }
    }
}

impl Docker {
    /// Shows what is wrong, and tells what is new.
    fn note(&self, mut problems: Vec<Problem>) {
        let mut kept = lock(&self.kept);
        kept.retain(|(_, since)| since.elapsed() < KEPT);
        problems.extend(kept.iter().map(|(problem, _)| problem.clone()));
        drop(kept);
        self.problems.send_modify(|before| {
            for problem in problems.iter().filter(|problem| !before.contains(problem)) {
                tracing::warn!("{problem}");
            }
            *before = problems;
        });
    }

    fn has_unreleased(&self) -> bool {
        lock(&self.unreleased).is_some()
    }

    /// Before when something may not have been released, once Docker can be asked for that.
    fn take_unreleased(&self) -> Option<Instant> {
        let mut unreleased = lock(&self.unreleased);
        let (first, last) = (*unreleased)?;
        if first.elapsed() < SETTLED {
            return None;
        }
        *unreleased = (last > first).then_some((last, last));
        Some(first)
    }
}
