//! How the agent is doing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::agent::{Agent, State};
use super::desired::{network_mtu, network_overhead};
use super::endpoints::network_name;
use super::problem::{self, Problem};
use super::utc::utc;
use super::view::SHOWN;
use crate::api::types::{
    NetworkStatus, Node, NodeState, Peer, SnapshotStatus, Status, Store, Underlay,
};
use crate::datapath::Tables;
use crate::host::link::XdpHook;
use crate::metrics::{Reading, StoreReading};
use crate::store::schema::FloodMode;

impl Agent {
    pub async fn status(&self) -> Status {
        let (xdp, decap) = {
            let datapath = self.datapath.lock().await;
            (
                XdpHook::label(datapath.xdp).to_owned(),
                datapath.decap.to_string(),
            )
        };
        let state = self.state();
        let hops = self.hops.subscribe().borrow().clone();
        let peers = state.peers.values().map(|peer| {
            let hop = hops.get(&peer.address);
            Peer {
                name: peer.name.clone(),
                address: peer.address,
                route: hop.is_some(),
                next_hop: hop.and_then(|hop| hop.mac),
            }
        });
        Status {
            node: self.name.clone(),
            node_id: self.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            underlay: Underlay {
                device: self.underlay.clone(),
                addresses: self.vteps.borrow().addresses(),
                port: self.config.port,
                mtu: state.underlay_mtu,
                xdp,
                decap,
            },
            store: self.store_status(),
            synced: self.is_synced() && !state.view.is_old(),
            snapshot: of_snapshot(&state),
            networks: networks_here(&state),
            networks_total: state.view.networks.len(),
            endpoints: state.locals.len(),
            peers: peers.collect(),
            absent: self.absent(&state),
            problems: {
                let kept = self.kept.iter().flat_map(|kept| kept.problems());
                let all = state.all_problems().into_iter().chain(kept);
                all.map(|problem| problem.to_string()).collect()
            },
        }
    }

    fn absent(&self, state: &State) -> Vec<Node> {
        let nodes = state.view.nodes.iter();
        let nodes = nodes.map(|(id, record)| self.shown_node(state, *id, record));
        nodes
            .filter(|node| node.state.is_some_and(|state| state != NodeState::Alive))
            .collect()
    }

    fn store_status(&self) -> Store {
        let client = self.registry.client();
        let health = client.health().view();
        Store {
            address: client.address().to_owned(),
            up: health.up,
            down_since: health.down_since.map(|since| utc(since.at())),
            down_seconds: health.down_since.map(|since| since.age().as_secs()),
            error: health.last_error.filter(|_| !health.up),
        }
    }

    /// What a scrape shows.
    pub(super) fn reading(&self, tables: &Tables) -> Reading {
        let mut state = self.state();
        let addresses = state.free_addresses(Instant::now());
        let health = self.registry.client().health().view();
        let networks = state.view.networks.iter();
        let mut endpoints: BTreeMap<String, u64> = BTreeMap::new();
        for local in state
            .locals
            .values()
            .filter(|local| local.ifindex.is_some())
        {
            *endpoints
                .entry(network_name(&state.view, local.vni))
                .or_default() += 1;
        }
        Reading {
            networks: networks
                .map(|(name, record)| (record.vni.get(), name.clone()))
                .collect(),
            peers: state
                .peers
                .iter()
                .map(|(index, peer)| (*index, peer.name.clone()))
                .collect(),
            stats: or_logged(tables.stats()),
            retired: state.retired.clone(),
            drops: or_logged(tables.drops()),
            fallbacks: or_logged(tables.fallbacks()),
            maps: or_logged(tables.sizes()),
            store: StoreReading {
                up: health.up,
                last_contact: health.last_contact.map(|heard| heard.age().as_secs_f64()),
                errors: health
                    .errors()
                    .map(|(kind, count)| (kind.label(), count))
                    .collect(),
            },
            endpoints,
            addresses,
        }
    }
}

impl State {
    fn of_docker(&self) -> Vec<Problem> {
        let problems = self.docker.as_ref();
        problems.map_or_else(Vec::new, |problems| problems.borrow().clone())
    }

    /// An upgrade that is not finished, among the agents that are alive.
    fn other_versions(&self) -> Option<Problem> {
        let nodes = self.view.nodes.iter();
        let alive = nodes.filter(|(id, _)| self.view.sessions.contains_key(id));
        let alive = alive.map(|(_, record)| (record.version.as_str(), record.name.as_str()));
        problem::versions(alive.filter(|(version, _)| !version.is_empty()))
    }

    pub(super) fn all_problems(&self) -> Vec<Problem> {
        let bad = self.view.bad_keys().take(SHOWN).cloned();
        let bad = bad.map(Problem::BadKey);
        let more = self.view.bad_count().saturating_sub(SHOWN);
        let more = (more > 0).then_some(Problem::MoreBadKeys(more));
        let uncleared = self.uncleared.iter().flat_map(|(endpoint, ips)| {
            let problem = |ip: &IpAddr| Problem::Uncleared {
                endpoint: endpoint.clone(),
                ip: *ip,
            };
            ips.iter().map(problem)
        });
        let troubles = self.troubles.iter();
        let troubles = troubles.filter_map(|trouble| trouble.borrow().clone());
        bad.chain(more)
            .chain(troubles.map(Problem::NotFollowed))
            .chain(self.unregistered.clone())
            .chain(self.catalog.clone())
            .chain(self.other_versions())
            .chain(self.underlay.iter().cloned())
            .chain(uncleared)
            .chain(self.queue_problems())
            .chain(self.of_docker())
            .chain(self.names.values().cloned())
            .chain(self.orphans.iter().cloned())
            .chain(self.problems.iter().cloned())
            .collect()
    }
}

/// What the agent works from while the store is not read.
fn of_snapshot(state: &State) -> Option<SnapshotStatus> {
    let taken = state.snapshot.filter(|_| state.view.is_old())?;
    Some(SnapshotStatus {
        taken: utc(taken.at()),
        age_seconds: taken.age().as_secs(),
    })
}

fn networks_here(state: &State) -> BTreeMap<String, NetworkStatus> {
    let mut networks = BTreeMap::new();
    for local in state.locals.values() {
        let name = network_name(&state.view, local.vni);
        let record = state.view.network_of(local.vni).map(|(_, record)| record);
        let flood = record.map_or(FloodMode::Drop, |record| record.flood);
        let overhead = network_overhead(flood, state.overhead);
        let explicit = record.and_then(|record| record.mtu);
        let network = networks.entry(name).or_insert(NetworkStatus {
            vni: local.vni,
            mtu: network_mtu(explicit, state.path_mtu, overhead),
            endpoints: 0,
        });
        network.endpoints += 1;
    }
    networks
}

/// Metrics that cannot be read are missing; the others are there.
fn or_logged<T: Default, E: std::error::Error + Send + Sync + 'static>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| {
        tracing::warn!("metrics are missing: {:#}", anyhow::Error::from(error));
        T::default()
    })
}
