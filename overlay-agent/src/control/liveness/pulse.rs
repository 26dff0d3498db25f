//! Looking after hosts that are missing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{heard, missing};
use crate::control::agent::Agent;
use crate::store::StoreError;
use crate::store::schema::NodeId;

/// Between two looks; the grace period has about ten.
const PULSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// How long the store may take to confirm a death. If it does not, the next look is soon.
const CONFIRM: Duration = Duration::from_secs(3);

/// Runs for as long as the agent. Costs nothing while nobody is missing.
pub(in crate::control) async fn run(agent: Arc<Agent>) {
    let grace = agent.config.node_grace;
    let between = (grace / 10).clamp(PULSE[0], PULSE[1]);
    let mut pulse = interval(between);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pulse.tick().await;
        if agent.state().liveness.waiting().next().is_none() {
            continue;
        }
        let over = agent.look(2 * between).await;
        if over.is_empty() {
            continue;
        }
        match timeout(CONFIRM, agent.still_missing()).await {
            Ok(Ok(missing)) => agent.bury(over.into_iter().filter(|id| missing.contains(id))),
            Ok(Err(error)) => tracing::debug!("hosts stay: {error}"),
            Err(_) => tracing::debug!("hosts stay: the store does not answer"),
        }
    }
}

impl Agent {
    /// Whose time is over.
    async fn look(&self, most: Duration) -> Vec<NodeId> {
        let stats = self.datapath.lock().await.tables.stats();
        // What cannot be read proves nobody's death.
        let readable = stats.is_ok();
        let stats = stats.unwrap_or_default();
        let sure =
            readable && *self.registered.borrow() && self.registry.client().health().view().up;
        let mut state = self.state();
        let heard = heard(&state.node_peers, &stats);
        let grace = self.config.node_grace;
        state.liveness.look(
            Instant::now(),
            most,
            sure,
            |id| heard.get(&id).copied().unwrap_or(0),
            grace,
        )
    }

    /// The nodes without a live session, by a read of this moment.
    async fn still_missing(&self) -> Result<BTreeSet<NodeId>, StoreError> {
        Ok(missing(&self.registry.nodes().await?.items, self.node))
    }

    fn bury(&self, dead: impl Iterator<Item = NodeId>) {
        let mut state = self.state();
        let mut some = false;
        for id in dead {
            if !state.liveness.bury(id) {
                continue;
            }
            some = true;
            let name = state.view.nodes.get(&id).map(|record| &record.name);
            tracing::warn!(
                node = %id,
                "host {} is dead: its agent has been gone for the grace period of {} s; its endpoints are \
                 withdrawn here, and back when it is",
                name.map_or("", String::as_str),
                self.config.node_grace.as_secs()
            );
        }
        drop(state);
        if some {
            self.buried.notify_one();
        }
    }

    /// Takes over what the store says of the other hosts' agents, and of this one's.
    pub(in crate::control) fn note_nodes(&self) {
        let mut state = self.state();
        let state = &mut *state;
        for id in state.liveness.update(&state.view, self.node) {
            if let Some(record) = state.view.nodes.get(&id) {
                tracing::info!(node = %id, "host {} is back, and its endpoints", record.name);
            }
        }
        let locked = state.view.sessions.contains_key(&self.node);
        if *self.registered.borrow() && !locked && state.view.nodes.contains_key(&self.node) {
            self.unlocked.notify_one();
        }
    }
}
