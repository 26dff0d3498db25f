//! Following the store: what changes there or on the underlay reaches the data path.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::agent::{Agent, LocalEndpoint, device_name};
use super::error::AgentError;
use super::problem::Problem;
use super::sync::Trust;
use super::view::View;
use crate::host::endpoint;
use crate::store::schema::Keys;
use crate::store::watch::WatchHandle;
use crate::store::{KvPair, PrefixWatch, Snapshot};

/// How often the maps are read back. Local work: the store is not asked.
const AUDIT: Duration = Duration::from_secs(60);

/// Pause after a failure of this host's.
const RETRY: Duration = Duration::from_secs(5);

/// How long the first sync waits for the ways to the peers.
const FIRST_HOPS: Duration = Duration::from_secs(1);

type Latest = watch::Receiver<Option<Arc<Snapshot>>>;

/// Runs for as long as the agent: three blocking queries and the kernel's announcements.
/// Starts when the store is `prepared`: a fresh one cannot be told from one that hides its keys.
pub(super) async fn run(agent: Arc<Agent>, prepared: Arc<Notify>) {
    prepared.notified().await;
    let (client, keys) = (agent.registry.client(), agent.registry.keys());
    let watch = |folder| {
        PrefixWatch::new(client.clone(), keys, folder)
            .with_witness(Arc::clone(&agent.witness))
            .spawn()
    };
    let networks = watch(keys.networks());
    let nodes = watch(keys.nodes());
    let endpoints = watch(keys.endpoints());
    agent.state().troubles = [&networks, &nodes, &endpoints]
        .map(WatchHandle::trouble)
        .into();
    let mut folders = Folders {
        networks: networks.latest(),
        nodes: nodes.latest(),
        endpoints: endpoints.latest(),
    };
    let mut hops = agent.hops.subscribe();
    let mut underlay = agent.underlay_watcher.subscribe();
    let mut audit = interval(AUDIT);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        let mut trust = Trust::Memory;
        let alive = tokio::select! {
            changed = folders.networks.changed() => changed.is_ok(),
            changed = folders.nodes.changed() => changed.is_ok(),
            changed = folders.endpoints.changed() => changed.is_ok(),
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
        };
        if !alive {
            return;
        }
        folders.read_into(&mut agent.state().view, keys);
        // Until everything was read, what is missing means nothing: the last state stays.
        if !agent.state().view.is_complete() {
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

fn report(action: &str, error: AgentError) {
    tracing::error!("cannot {action}: {:#}", anyhow::Error::from(error));
}

/// The folders of the store that an agent follows.
struct Folders {
    networks: Latest,
    nodes: Latest,
    endpoints: Latest,
}

impl Folders {
    fn read_into(&mut self, view: &mut View, keys: &Keys) {
        take(&mut self.networks, |pairs| view.set_networks(keys, pairs));
        take(&mut self.nodes, |pairs| view.set_nodes(keys, pairs));
        take(&mut self.endpoints, |pairs| view.set_endpoints(keys, pairs));
    }
}

fn take(latest: &mut Latest, set: impl FnOnce(&[KvPair])) {
    if let Some(snapshot) = latest.borrow_and_update().as_ref() {
        set(&snapshot.entries);
    }
}

impl Agent {
    /// Takes over the endpoints that an earlier run has left on this host. Those whose device is
    /// gone are known too, so that they can be removed.
    async fn adopt(&self) -> Result<(), AgentError> {
        let devices = endpoint::list(&self.netlink, &self.owner).await?;
        let published: Vec<_> = {
            let state = self.state();
            let all = state.view.endpoints.iter();
            all.filter(|(path, _)| path.node == self.node)
                .map(|(path, record)| (path.clone(), record.clone()))
                .collect()
        };
        let known = |id: &str| published.iter().any(|(path, _)| path.id.as_str() == id);
        let orphans = devices
            .iter()
            .filter(|(id, _)| !known(id))
            .map(|(id, link)| {
                let problem = Problem::Orphan {
                    endpoint: id.clone(),
                    device: link.name.clone(),
                };
                tracing::warn!("{problem}");
                problem
            });
        let orphans = orphans.collect();
        self.state().orphans = orphans;
        for (path, record) in published {
            let device = device_name(&path.id);
            let found = devices.iter().find(|(id, _)| *id == path.id.as_str());
            let ifindex = match found {
                Some((_, link)) => Some(
                    self.datapath
                        .lock()
                        .await
                        .attach_endpoint(&link.name)
                        .await?,
                ),
                None => None,
            };
            self.witness.published(path.clone());
            let local = LocalEndpoint {
                vni: path.net,
                record,
                device,
                ifindex,
                mtu: 0,
                open: false,
                seen: true,
                leaving: false,
                // Of an earlier run.
                since: SystemTime::UNIX_EPOCH,
            };
            self.state().locals.insert(path.id, local);
        }
        Ok(())
    }
}
