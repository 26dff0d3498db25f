//! Networks and hosts: what the store is asked to change, and what is shown of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_common::net::Vni;

use super::agent::{Agent, State};
use super::desired::{network_mtu, network_overhead};
use super::error::AgentError;
use super::utc::utc;
use crate::api::types::{Network, NetworkRequest, Node, NodeDetail, NodeRequest};
use crate::store::registry::{EndpointFilter, NewNetwork};
use crate::store::schema::{FloodMode, NetworkRecord, NodeId, NodeRecord, gateway_mac, rules};

impl Agent {
    pub async fn create_network(&self, request: NetworkRequest) -> Result<Network, AgentError> {
        let avoid = match request.subnets.is_empty() {
            true => self.taken_out_there().await?,
            false => Vec::new(),
        };
        let new = NewNetwork {
            name: request.name,
            vni: request.vni,
            subnets: request.subnets,
            gateways: request.gateways,
            mtu: request.mtu,
            flood: request.flood,
            flood_rate: request.flood_rate,
            internal: request.internal,
            vlan: request.vlan,
            ranges: request.ranges,
            exclude: request.exclude,
            avoid,
            reserved: Vec::new(),
            reservation: None,
        };
        self.refuse_for_underlay(&new)?;
        self.registry.check_layout().await?;
        let made = self.registry.create_network(&new).await?;
        self.echo_network(&made.name).await;
        let counts = BTreeMap::new();
        Ok(shown_network(
            &self.state(),
            &made.name,
            &made.record,
            &counts,
        ))
    }

    /// What a subnet that nobody named has to keep clear of, besides other networks: where this host has routes
    /// to, and where the hosts are.
    pub(crate) async fn taken_out_there(&self) -> Result<Vec<IpNet>, AgentError> {
        let mut taken = self.host_routes().await?;
        let state = self.state();
        let vteps = state.view.nodes.values().flat_map(|node| &node.vteps);
        taken.extend(vteps.map(|vtep| IpNet::from(*vtep)));
        Ok(taken)
    }

    /// This host's place among the hosts of the store, and how many there are.
    pub(crate) fn place(&self) -> (usize, usize) {
        let state = self.state();
        let before = state.view.nodes.range(..self.node).count();
        (before, state.view.nodes.len())
    }

    /// Waits until a network that was put into the store has come back.
    pub(crate) async fn echo_network(&self, name: &str) {
        self.echo(|view| view.networks.contains_key(name)).await;
    }

    /// Refuses what this host's underlay cannot carry. Other hosts report it as a problem.
    pub(crate) fn refuse_for_underlay(&self, new: &NewNetwork) -> Result<(), AgentError> {
        let state = self.state();
        let overhead = network_overhead(new.flood, state.overhead);
        let most = network_mtu(None, state.path_mtu, overhead);
        if let Some(mtu) = new.mtu.filter(|mtu| *mtu > most) {
            return Err(AgentError::MtuAboveUnderlay {
                mtu,
                most,
                underlay: state.path_mtu,
            });
        }
        let least = rules::least_mtu(&new.subnets);
        if most < least {
            return Err(AgentError::UnderlayTooSmall {
                least,
                most,
                underlay: state.path_mtu,
            });
        }
        match new.flood {
            FloodMode::Multicast(group) if !self.underlay_carries(group) => {
                Err(AgentError::GroupFamily(group))
            }
            FloodMode::Drop | FloodMode::Replicate | FloodMode::Multicast(_) => Ok(()),
        }
    }

    /// Whether this host has a VTEP of the address's family.
    fn underlay_carries(&self, ip: IpAddr) -> bool {
        self.vteps.borrow().has_family_of(ip)
    }

    /// # Errors
    /// When endpoints are on the network.
    pub async fn remove_network(&self, name: &str) -> Result<(), AgentError> {
        let _no_endpoint_is_being_added = self.operations.lock().await;
        self.registry.check_layout().await?;
        self.registry.delete_network(name).await?;
        self.echo(|view| !view.networks.contains_key(name)).await;
        Ok(())
    }

    pub async fn networks(&self) -> Result<Vec<Network>, AgentError> {
        self.require_synced()?;
        let counts = self.endpoint_counts().await;
        let state = self.state();
        let networks = state.view.networks.iter();
        Ok(networks
            .map(|(name, record)| shown_network(&state, name, record, &counts))
            .collect())
    }

    pub async fn network_named(&self, name: &str) -> Result<Network, AgentError> {
        self.require_synced()?;
        let counts = self.endpoint_counts().await;
        let state = self.state();
        match state.view.networks.get(name) {
            Some(record) => Ok(shown_network(&state, name, record, &counts)),
            None => Err(AgentError::NoNetwork(name.to_owned())),
        }
    }

    /// Endpoints of each network, as the store has them; while it cannot be asked, of those that are known.
    async fn endpoint_counts(&self) -> BTreeMap<Vni, usize> {
        let paths = match self.registry.client().health().view().up {
            true => self
                .registry
                .endpoint_paths(EndpointFilter::default())
                .await
                .ok(),
            false => None,
        };
        let paths = paths.unwrap_or_else(|| self.state().view.endpoints.keys().cloned().collect());
        let mut counts = BTreeMap::new();
        for path in paths {
            *counts.entry(path.net).or_default() += 1;
        }
        counts
    }

    pub async fn add_node(&self, request: NodeRequest) -> Result<Node, AgentError> {
        if self.vteps.borrow().contains(request.vtep) {
            return Err(AgentError::OwnAddress(request.vtep));
        }
        if !self.somebody_reaches(request.vtep) {
            return Err(AgentError::NoCommonFamily { vtep: request.vtep });
        }
        self.registry.check_layout().await?;
        let added = self
            .registry
            .add_node(&request.name, request.vtep, request.port)
            .await?;
        self.echo(|view| view.nodes.contains_key(&added.id)).await;
        Ok(self.shown_node(&self.state(), added.id, &added.record))
    }

    /// Whether a host with an agent has a VTEP of the address's family.
    fn somebody_reaches(&self, vtep: IpAddr) -> bool {
        let state = self.state();
        let mut agents = state.view.nodes.values().filter(|node| node.agent);
        let shares = |ip: &IpAddr| ip.is_ipv4() == vtep.is_ipv4();
        self.underlay_carries(vtep) || agents.any(|node| node.vteps.iter().any(shares))
    }

    /// # Errors
    /// When its agent holds its lock.
    pub async fn forget_node(&self, name_or_id: &str) -> Result<(), AgentError> {
        self.registry.check_layout().await?;
        let removed = self.registry.remove_node(name_or_id).await?;
        self.echo(|view| !view.nodes.contains_key(&removed.id))
            .await;
        Ok(())
    }

    pub fn nodes(&self) -> Result<Vec<Node>, AgentError> {
        self.require_synced()?;
        let state = self.state();
        let nodes = state.view.nodes.iter();
        Ok(nodes
            .map(|(id, record)| self.shown_node(&state, *id, record))
            .collect())
    }

    /// One node, as the store has it now.
    pub async fn node_named(&self, name_or_id: &str) -> Result<NodeDetail, AgentError> {
        self.require_synced()?;
        let found = self.registry.find_node(name_or_id).await?;
        let filter = EndpointFilter {
            node: Some(found.id),
            net: None,
        };
        let endpoints = self.registry.endpoint_paths(filter).await?.len();
        Ok(NodeDetail {
            node: self.shown_node(&self.state(), found.id, &found.record),
            endpoints,
        })
    }

    pub(super) fn shown_node(&self, state: &State, id: NodeId, record: &NodeRecord) -> Node {
        let here = id == self.node;
        let alive = here || state.view.sessions.contains_key(&id);
        let (now, since) = state.liveness.state_of(id, record, alive).unzip();
        Node {
            id: id.to_string(),
            name: record.name.clone(),
            vteps: record.vteps.clone(),
            port: record.port,
            version: record.version.clone(),
            schema: record.schema,
            agent: record.agent,
            here,
            state: now,
            since: since.flatten().map(utc),
        }
    }
}

fn shown_network(
    state: &State,
    name: &str,
    record: &NetworkRecord,
    endpoints: &BTreeMap<Vni, usize>,
) -> Network {
    let overhead = network_overhead(record.flood, state.overhead);
    Network {
        name: name.to_owned(),
        vni: record.vni,
        subnets: record.subnets.clone(),
        gateways: record.gateways().collect(),
        gateway_mac: record.gateway.map(|_| gateway_mac(record.vni)),
        mtu: network_mtu(record.mtu, state.path_mtu, overhead),
        flood: record.flood,
        flood_rate: record.flood_rate(),
        internal: record.options.internal,
        vlan: record.options.vlan,
        ranges: record.options.ranges.clone(),
        exclude: record.options.exclude.clone(),
        endpoints: endpoints.get(&record.vni).copied().unwrap_or(0),
    }
}
