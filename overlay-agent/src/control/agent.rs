//! The agent of one host: what it knows, shared by everything that it does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_common::layout::{PathStats, PeerIndex};
use overlay_common::net::Vni;
use tokio::sync::{Notify, watch};

use super::desired::PeerEnd;
use super::error::AgentError;
use super::interest::Inbox;
use super::liveness::Liveness;
use super::problem::Problem;
use super::queue::Queued;
use super::released::Released;
use super::snapshot::Kept;
use super::view::View;
use crate::config::Config;
use crate::datapath::Datapath;
use crate::datapath::rows::Rows;
use crate::host::netlink::NetlinkError;
use crate::host::nexthop::NextHopWatcher;
use crate::host::underlay::{UnderlayWatcher, Vteps};
use crate::host::{Netlink, Owner};
use crate::ipam::{Allocator, Family, Trend};
use crate::metrics::SyncMetrics;
use crate::store::schema::{
    EndpointId, EndpointPath, EndpointRecord, Network, NetworkRecord, NodeId,
};
use crate::store::{Moment, Registry, Witness};

/// How long a command waits to see in the store what it has just written there.
pub(super) const ECHO: Duration = Duration::from_secs(2);

/// Everything that the parts of the agent share.
#[derive(Debug)]
pub struct Agent {
    pub config: Config,
    pub node: NodeId,
    /// This host's name in the store.
    pub name: String,
    /// The underlay device's name.
    pub underlay: String,
    /// The addresses that this host sends from and peers send to.
    pub(super) vteps: watch::Sender<Vteps>,
    pub(super) underlay_watcher: UnderlayWatcher,
    pub registry: Registry,
    pub(crate) ipam: Allocator,
    /// Addresses that endpoints of this host had.
    pub(super) released: Released,
    pub(super) netlink: Netlink,
    pub(super) owner: Owner,
    pub(super) hops: NextHopWatcher,
    pub(super) datapath: tokio::sync::Mutex<Datapath>,
    /// Held while endpoints of this host change: one at a time.
    pub(super) operations: tokio::sync::Mutex<()>,
    pub(super) metrics: SyncMetrics,
    /// What of this host is in the store.
    pub(super) witness: Arc<Witness>,
    /// What was read of the networks that are followed.
    pub(super) inbox: Arc<Inbox>,
    /// Where what was read outlives this agent; not beside a store that is in this process.
    pub(super) kept: Option<Arc<Kept>>,
    /// Whether this host's record in the store is its own and locked.
    pub(super) registered: watch::Sender<bool>,
    /// Tells that hosts have died.
    pub(super) buried: Notify,
    /// Tells that the store shows this host's record without its lock.
    pub(super) unlocked: Notify,
    /// Counts the times that the data path was brought in line.
    pub(super) synced: watch::Sender<u64>,
    pub(super) state: Mutex<State>,
}

/// What changes.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) view: View,
    /// Which of the other hosts are dead.
    pub(super) liveness: Liveness,
    /// When the store was heard of that a snapshot was made of, if one was used.
    pub(super) snapshot: Option<Moment>,
    /// What the store is to be told of this host's endpoints.
    pub(super) queue: BTreeMap<EndpointId, Queued>,
    /// Why it cannot be told.
    pub(super) queue_trouble: Option<String>,
    /// Endpoints of this host; complete once the store was read.
    pub(super) locals: BTreeMap<EndpointId, LocalEndpoint>,
    /// What the maps hold; `None` when that is not known.
    pub(super) actual: Option<Rows>,
    pub(super) peers: BTreeMap<PeerIndex, PeerEnd>,
    /// The peer index of each node that can be reached.
    pub(super) node_peers: BTreeMap<NodeId, PeerIndex>,
    /// What could not be had when the rows were worked out.
    pub(super) contested: Vec<Problem>,
    /// Of the underlay, with the device that is a member of them; `None` when that is not known.
    pub(super) groups: Option<(u32, BTreeSet<IpAddr>)>,
    pub(super) problems: Vec<Problem>,
    /// Devices of endpoints that the store does not know.
    pub(super) orphans: Vec<Problem>,
    /// Addresses of endpoints that did not come to be, which the store still has to let go.
    pub(super) uncleared: BTreeMap<EndpointId, Vec<IpAddr>>,
    /// For what addresses were lately given to a container engine, and when.
    pub(super) lent: BTreeMap<EndpointId, Instant>,
    /// What is wrong with Docker, where it is served.
    pub(super) docker: Option<watch::Receiver<Vec<Problem>>>,
    /// Why a folder of the store cannot be followed.
    pub(super) troubles: Vec<watch::Receiver<Option<String>>>,
    /// Why names are not served, by whom they are not served to.
    pub(super) names: BTreeMap<&'static str, Problem>,
    /// Why this host is not registered.
    pub(super) unregistered: Option<Problem>,
    /// Why this host is not in Consul's catalog.
    pub(super) catalog: Option<Problem>,
    /// By VNI: what was counted with peers that are gone.
    pub(super) retired: BTreeMap<u32, PathStats>,
    /// How the free addresses of the networks that are followed get fewer.
    pub(super) trends: BTreeMap<(Vni, Family), Trend>,
    /// Whether the underlay device was cut off when it was last looked at.
    pub(super) cut_off: bool,
    /// Largest IP packet of the underlay device in bytes.
    pub(super) underlay_mtu: u16,
    /// Largest IP packet in bytes that the underlay takes to every peer.
    pub(super) path_mtu: u16,
    /// Bytes that the longest outer headers in use take from an inner IP packet.
    pub(super) overhead: u16,
    /// What is wrong with the underlay.
    pub(super) underlay: Vec<Problem>,
}

/// An endpoint of this host.
#[derive(Clone, Debug)]
pub(super) struct LocalEndpoint {
    pub(super) vni: Vni,
    pub(super) record: EndpointRecord,
    /// Host side of its veth.
    pub(super) device: String,
    /// `None` when the device is gone.
    pub(super) ifindex: Option<u32>,
    /// What both ends of its veth are known to have, in bytes; 0 when that has to be looked up.
    pub(super) mtu: u32,
    /// Whether the device was brought up, which it is once its row is in the maps.
    pub(super) open: bool,
    /// Has been seen in the store.
    pub(super) seen: bool,
    /// Being removed: no longer in the data path.
    pub(super) leaving: bool,
    /// When it was made; `None` for one of an earlier run.
    pub(super) made: Option<Instant>,
}

impl Agent {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the process; until then the state is as good as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the times that the data path was brought in line.
    pub(crate) fn synced(&self) -> watch::Receiver<u64> {
        self.synced.subscribe()
    }

    /// The first network in the store that is like this.
    pub(crate) fn network_where(
        &self,
        is: impl Fn(&str, &NetworkRecord) -> bool,
    ) -> Option<Network> {
        let state = self.state();
        let mut networks = state.view.networks.iter();
        let (name, record) = networks.find(|(name, record)| is(name, record))?;
        Some(Network {
            name: name.clone(),
            record: record.clone(),
        })
    }

    pub(crate) fn networks_in_store(&self) -> BTreeMap<String, NetworkRecord> {
        self.state().view.networks.clone()
    }

    /// Subnets of all networks.
    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        let state = self.state();
        let networks = state.view.networks.values();
        networks
            .flat_map(|record| record.subnets.iter().copied())
            .collect()
    }

    /// Where this host has routes to, but for the default ones.
    pub(crate) async fn host_routes(&self) -> Result<Vec<IpNet>, NetlinkError> {
        // By a socket of its own: the kernel dumps one table at a time on each.
        Netlink::open()?.routes().await
    }

    /// Where the store has an endpoint of this host.
    pub(super) fn own_path(&self, net: Vni, id: &EndpointId) -> EndpointPath {
        EndpointPath {
            node: self.node,
            net,
            id: id.clone(),
        }
    }

    /// This host's endpoints and their networks.
    pub(crate) fn local_ids(&self) -> Vec<(EndpointId, Vni)> {
        let state = self.state();
        let locals = state.locals.iter().filter(|(_, local)| !local.leaving);
        locals.map(|(id, local)| (id.clone(), local.vni)).collect()
    }

    /// Whether the data path has been brought in line with the store, or a snapshot of it, since the start.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow() > 0
    }

    /// Refuses before the first sync: nothing is not the same as not known.
    pub(crate) fn require_synced(&self) -> Result<(), AgentError> {
        if self.is_synced() {
            return Ok(());
        }
        Err(AgentError::NotSynced {
            address: self.registry.client().address().to_owned(),
        })
    }

    /// Refuses while another agent may own this host's part of the store. Waits for a registration
    /// that is under way.
    pub(super) async fn require_registered(&self) -> Result<(), AgentError> {
        let mut registered = self.registered.subscribe();
        let arrived = tokio::time::timeout(ECHO, registered.wait_for(|is| *is)).await;
        if matches!(arrived, Ok(Ok(_))) {
            return Ok(());
        }
        let why = self.state().unregistered.as_ref().map_or_else(
            || "the store has given it no session yet".to_owned(),
            ToString::to_string,
        );
        Err(AgentError::NotRegistered(why))
    }

    /// Waits until what was just written to the store has come back and is in the data path, so
    /// that the next command sees it. Not for ever: the write is done in any case.
    pub(super) async fn echo(&self, arrived: impl Fn(&View) -> bool) {
        let mut synced = self.synced.subscribe();
        let wait = async {
            while !arrived(&self.state().view) {
                if synced.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(ECHO, wait).await.is_err() {
            tracing::warn!("the store has not confirmed the last change yet");
        }
    }
}

/// Name of the container side of an endpoint while it is on the host.
pub(crate) fn peer_name(id: &EndpointId) -> String {
    format!("ovc{}", digits(id))
}

/// Name of the host side of an endpoint's veth: 14 of the 15 bytes that a device name may have.
pub(super) fn device_name(id: &EndpointId) -> String {
    format!("ov{}", digits(id))
}

/// As many of an id as a device name has room for.
fn digits(id: &EndpointId) -> String {
    id.to_string().chars().take(12).collect()
}
