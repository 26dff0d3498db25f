//! Following the store: what changes there or on the underlay reaches the data path.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::agent::Agent;
use super::error::AgentError;
use super::interest::Watches;
use super::snapshot::Restored;
use super::start::PROBE;
use super::sync::Trust;
use super::view::View;
use crate::store::schema::{Keys, NodeId};
use crate::store::watch::WatchHandle;
use crate::store::{KvPair, PrefixWatch, Snapshot};

/// Pause after a failure of this host's.
const RETRY: Duration = Duration::from_secs(5);

/// Between two reads of all hosts, while many of them start.
const NODES: Duration = Duration::from_millis(250);

/// How long the first sync waits for the ways to the peers.
const FIRST_HOPS: Duration = Duration::from_secs(1);

/// Runs for as long as the agent: three blocking queries, one for each network that this host has endpoints on,
/// and the kernel's announcements.
/// Asks the store when it is `prepared`: a fresh one cannot be told from one that hides its keys. Until then, what
/// was read before it went away is followed, where there is such.
pub(super) async fn run(agent: Arc<Agent>, prepared: watch::Receiver<bool>) {
    let (client, keys) = (agent.registry.client(), agent.registry.keys());
    let watch = |folder| {
        let watch = PrefixWatch::new(client.clone(), keys, folder);
        watch.with_witness(Arc::clone(&agent.witness))
    };
    let networks = watch(keys.networks()).spawn_after(prepared.clone());
    let nodes = watch(keys.nodes()).with_settle(NODES);
    let nodes = nodes.spawn_after(prepared.clone());
    let own = watch(keys.endpoints_of(agent.node)).spawn_after(prepared.clone());
    let troubles = [&networks, &nodes, &own].map(WatchHandle::trouble);
    let mut folders = Folders {
        networks: Folder::of(&networks),
        nodes: Folder::of(&nodes),
        own: Folder::of(&own),
    };
    agent.state().troubles = troubles.to_vec();
    let mut watches = Watches::new(prepared);
    let mut hops = agent.hops.subscribe();
    let mut underlay = agent.underlay_watcher.subscribe();
    let mut audit = interval(agent.config.audit_interval);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = true;
    let mut unread = interval(PROBE);
    let mut restored = Restored::NotNeeded;
    loop {
        let mut trust = Trust::Memory;
        let mut only_members = false;
        let alive = tokio::select! {
            changed = folders.networks.latest.changed() => changed.is_ok(),
            changed = folders.nodes.latest.changed() => changed.is_ok(),
            changed = folders.own.latest.changed() => changed.is_ok(),
            () = agent.inbox.arrived() => {
                only_members = !first;
                true
            }
            () = agent.inbox.changed() => {
                only_members = !first;
                true
            }
            () = agent.buried.notified() => true,
            changed = hops.changed() => changed.is_ok(),
            changed = underlay.changed() => {
                let now = underlay.borrow_and_update().clone();
                if let Err(error) = agent.take_over_underlay(now).await {
                    report("follow the underlay", error);
                }
                changed.is_ok()
            }
            _ = audit.tick() => {
                trust = Trust::Nothing;
                true
            }
            _ = unread.tick(), if first && restored == Restored::NotNeeded => {
                restored = agent.restore().await;
                true
            }
        };
        if !alive {
            return;
        }
        if folders.read_into(&mut agent.state().view, agent.node, keys) {
            only_members = false;
            agent.note_nodes();
        }
        // Until everything was read, what is missing means nothing: the last state stays.
        if !agent.state().view.is_complete() {
            continue;
        }
        if restored == Restored::Yes && !first && !agent.state().view.is_own_old() {
            restored = Restored::No;
            tokio::spawn(Arc::clone(&agent).adopt_others());
        }
        let interest = agent.interest();
        if watches.set(&agent, &interest) {
            only_members = false;
            let all = troubles.iter().cloned().chain(watches.troubles());
            agent.state().troubles = all.collect();
        }
        let mut changed = Vec::new();
        for (net, nodes) in agent.inbox.take() {
            let view = &mut agent.state().view;
            let taken = view.take_members(net, nodes, agent.node, keys);
            only_members &= taken.is_some();
            changed.extend(taken.into_iter().flatten());
        }
        agent.keep();
        if only_members && agent.sync_alone(&changed).await {
            continue;
        }
        if first && !agent.state().view.knows_all(&interest) {
            continue;
        }
        if first {
            trust = Trust::Nothing;
            if let Err(error) = agent.adopt().await {
                report("take over this host's endpoints", error);
                audit.reset_after(RETRY);
                continue;
            }
            agent.hops.set_peers(agent.peer_addresses());
            if !agent.peer_addresses().is_empty() {
                // Else the tunnels of before would be taken down for a moment.
                let _ = timeout(FIRST_HOPS, hops.wait_for(|hops| !hops.is_empty())).await;
            }
        }
        hops.mark_unchanged();
        match agent.sync(trust).await {
            Ok(()) if first => {
                tracing::info!("the data path is in line with the store");
                first = false;
            }
            Ok(()) => {}
            Err(error) => {
                report("bring the data path in line", error);
                audit.reset_after(RETRY);
            }
        }
    }
}

pub(super) fn report(action: &str, error: AgentError) {
    tracing::error!("cannot {action}: {:#}", anyhow::Error::from(error));
}

/// The folders of the store that an agent follows.
struct Folders {
    networks: Folder,
    nodes: Folder,
    /// The endpoints of this host.
    own: Folder,
}

impl Folders {
    /// Returns whether there was anything new.
    fn read_into(&mut self, view: &mut View, node: NodeId, keys: &Keys) -> bool {
        let networks = self.networks.take(|pairs| view.set_networks(keys, pairs));
        let nodes = self.nodes.take(|pairs| view.set_nodes(keys, pairs));
        let own = self
            .own
            .take(|pairs| view.set_endpoints_of(node, keys, pairs));
        networks || nodes || own
    }
}

struct Folder {
    latest: watch::Receiver<Option<Arc<Snapshot>>>,
    taken: Option<Arc<Snapshot>>,
}

impl Folder {
    fn of(watch: &WatchHandle) -> Self {
        Self {
            latest: watch.latest(),
            taken: None,
        }
    }

    /// Returns whether there was a snapshot that has not been taken.
    fn take(&mut self, set: impl FnOnce(&[KvPair])) -> bool {
        let now = self.latest.borrow_and_update().clone();
        let known = |taken: &Arc<Snapshot>| now.as_ref().is_some_and(|now| Arc::ptr_eq(now, taken));
        if self.taken.as_ref().is_some_and(known) {
            return false;
        }
        if let Some(snapshot) = &now {
            set(&snapshot.entries);
        }
        self.taken = now;
        self.taken.is_some()
    }
}
