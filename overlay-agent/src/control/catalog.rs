//! This host in Consul's catalog: the service `overlay-agent` with a check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
use super::problem::Problem;
use crate::store::StoreError;
use crate::store::client::{Check, Health, Service};
use crate::store::error::in_full;

const NAME: &str = "overlay-agent";

/// Between two updates of the check, every second renewal of the session: more than that would be noticed
/// where there are thousands of hosts.
const PERIOD: Duration = Duration::from_secs(30);
/// Two updates may be late or lost.
const TTL: Duration = Duration::from_secs(90);
/// A host that is away for an hour is to be found in the catalog, one that is gone is not to stay there.
const REAPED: Duration = Duration::from_secs(3600);

/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Keeps the service registered until `shutdown`; ends at once where the store has no catalog.
pub(super) async fn run(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut registered = None;
    let missing = tokio::select! {
        () = keep(&agent, &mut registered) => true,
        () = shutdown.cancelled() => false,
    };
    if missing || registered.is_none() {
        return;
    }
    let id = service_id(&agent);
    let client = agent.registry.client();
    match timeout(FAREWELL, client.service_deregister(&id)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("Consul finds out by itself: {}", in_full(&error)),
        Err(_) => tracing::warn!("Consul finds out by itself: it does not answer"),
    }
}

/// What was registered, and after how many changes of the token: Consul goes on with the token that it was
/// registered with.
type Registered = Option<(Service, u64)>;

async fn keep(agent: &Agent, registered: &mut Registered) {
    let mut synced = agent.synced.subscribe();
    tokio::select! {
        _ = synced.wait_for(|count| *count > 0) => {}
        () = sleep(PERIOD) => {}
    }
    let mut vteps = agent.vteps.subscribe();
    loop {
        vteps.mark_unchanged();
        let result = update(agent, registered).await;
        if matches!(result, Ok(false)) {
            return;
        }
        note(agent, result.err());
        tokio::select! {
            changed = vteps.changed() => if changed.is_err() { return },
            () = sleep(PERIOD) => {}
        }
    }
}

/// `false` where there is no catalog.
async fn update(agent: &Agent, registered: &mut Registered) -> Result<bool, StoreError> {
    let client = agent.registry.client();
    let wanted = (service(agent), client.token_changes());
    let known = registered.as_ref() == Some(&wanted);
    if known && check(agent, &wanted.0).await? {
        return Ok(true);
    }
    // It is new, or the Consul agent that is asked now has not heard of it.
    *registered = None;
    if !client.service_register(&wanted.0).await? {
        return Ok(false);
    }
    let id = wanted.0.check.id.clone();
    *registered = Some(wanted);
    let (health, output) = health(agent);
    client
        .check_update(&id, health, &output)
        .await
        .map(|_| true)
}

async fn check(agent: &Agent, service: &Service) -> Result<bool, StoreError> {
    let (health, output) = health(agent);
    let client = agent.registry.client();
    client
        .check_update(&service.check.id, health, &output)
        .await
}

fn service_id(agent: &Agent) -> String {
    // Many hosts may have one Consul agent in common.
    format!("{NAME}-{}", agent.node)
}

fn service(agent: &Agent) -> Service {
    let id = service_id(agent);
    let meta = [
        ("node", agent.name.clone()),
        ("node_id", agent.node.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("metrics", agent.config.metrics_addr.to_string()),
    ];
    let meta = meta.map(|(name, value)| (name.to_owned(), value));
    Service {
        check: Check {
            id: format!("service:{id}"),
            name: "in line with the store".to_owned(),
            ttl: TTL,
            deregister_critical_service_after: REAPED,
        },
        id,
        name: NAME.to_owned(),
        address: agent.vteps.borrow().addresses().first().copied(),
        port: agent.config.port,
        meta: BTreeMap::from(meta),
    }
}

fn health(agent: &Agent) -> (Health, String) {
    if !agent.is_synced() {
        return (Health::Warning, "has not read the store yet".to_owned());
    }
    let problems = agent.state().all_problems();
    let others = problems
        .iter()
        .filter(|problem| !matches!(problem, Problem::NotInCatalog(_)));
    let lines: Vec<_> = others.map(ToString::to_string).collect();
    if lines.is_empty() {
        return (Health::Passing, "no problems".to_owned());
    }
    (Health::Warning, lines.join("\n"))
}

fn note(agent: &Agent, error: Option<StoreError>) {
    // While the store is away there is no catalog to be missing from.
    let problem = error
        .filter(|error| !error.is_outage())
        .map(|error| Problem::NotInCatalog(in_full(&error)));
    let mut state = agent.state();
    if let Some(problem) = problem
        .as_ref()
        .filter(|p| state.catalog.as_ref() != Some(p))
    {
        tracing::warn!("{problem}");
    }
    state.catalog = problem;
}
