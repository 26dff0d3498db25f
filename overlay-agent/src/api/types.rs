//! Requests and answers. They are also what `-o json` prints.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use overlay_common::net::{MacAddr, Vni};
use serde::{Deserialize, Serialize};

use crate::ipam::Usage;
use crate::store::schema::FloodMode;

/// Body of every answer that is no success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
}

/// A network to be made; what is left out is chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkRequest {
    pub name: String,
    pub subnets: Vec<IpNet>,
    pub vni: Option<Vni>,
    /// Subnets without one get their first address.
    pub gateways: Vec<IpAddr>,
    pub mtu: Option<u16>,
    pub flood: FloodMode,
    pub flood_rate: Option<u32>,
    pub internal: bool,
    pub vlan: bool,
    /// Parts of the subnets to give out addresses of.
    #[serde(default)]
    pub ranges: Vec<IpNet>,
    /// Parts of the subnets that no endpoint gets an address of.
    #[serde(default)]
    pub exclude: Vec<IpNet>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    pub vni: Vni,
    pub subnets: Vec<IpNet>,
    pub gateways: Vec<IpAddr>,
    /// `None` when none of its subnets has a gateway.
    pub gateway_mac: Option<MacAddr>,
    /// Largest inner IP packet on this host in bytes.
    pub mtu: u16,
    pub flood: FloodMode,
    /// Packets per second.
    pub flood_rate: u32,
    pub internal: bool,
    pub vlan: bool,
    /// Parts of the subnets that addresses are given out of; a subnet without one is given out whole.
    pub ranges: Vec<IpNet>,
    /// Parts of the subnets that no endpoint gets an address of.
    #[serde(default)]
    pub exclude: Vec<IpNet>,
    /// On all hosts.
    pub endpoints: usize,
}

/// An endpoint to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointRequest {
    pub network: String,
    pub name: Option<String>,
    /// One of a family at most; of the network's other families, on a host with an agent, a free
    /// one is chosen.
    pub ips: Vec<IpAddr>,
    pub mac: Option<MacAddr>,
    pub allow_ips: Vec<IpNet>,
    pub forwarding: bool,
    /// Docker's id of its container, where that is known.
    #[serde(default)]
    pub container: Option<String>,
    pub at: At,
}

/// A container that runs on this host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub name: String,
    /// Path of its network namespace, as the agent sees it.
    pub netns: PathBuf,
}

/// Where an endpoint is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// In a network namespace of this host.
    Netns { path: PathBuf, ifname: String },
    /// On a host without an agent, by its name in the store.
    Node(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: String,
    pub name: String,
    /// Name of the network, or its VNI when no network has it.
    pub network: String,
    pub vni: Vni,
    /// Name of its node, or the node's id when it is not in the store.
    pub node: String,
    pub ip4: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    pub mac: MacAddr,
    /// Docker's id of its container.
    pub container: Option<String>,
    /// Other names that it goes by on the network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it may send from besides its own addresses.
    pub allow_ips: Vec<IpNet>,
    /// Whether it forwards packets of others.
    pub forwarding: bool,
    /// Host side of its veth; `None` for an endpoint of another host.
    pub device: Option<String>,
    pub state: EndpointState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// On this host, and its interface exists.
    Up,
    /// On this host, but its interface is gone.
    Gone,
    /// On this host and out of the data path: another endpoint has its address.
    Lost,
    /// On another host.
    Remote,
}

/// An address that has a record in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    pub ip: IpAddr,
    /// Name of the network, or its VNI when no network has it.
    pub network: String,
    pub vni: Vni,
    pub state: Usage,
    /// Of the endpoint; of a released one what its user called it.
    pub name: Option<String>,
    /// Id of the endpoint that holds it, or did; Docker asks for addresses under ids that no endpoint gets.
    pub endpoint: Option<String>,
    /// Name of its node, or the node's id when it is not in the store.
    pub node: Option<String>,
    /// RFC 3339 in UTC; of a released one, when that was.
    pub since: Option<String>,
}

/// A host without an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRequest {
    pub name: String,
    pub vtep: IpAddr,
    pub port: u16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    pub id: String,
    pub name: String,
    pub vteps: Vec<IpAddr>,
    pub port: u16,
    /// Version of its agent; empty when it has none.
    pub version: String,
    /// The newest layout of the store that its agent knows.
    #[serde(default)]
    pub schema: u32,
    pub agent: bool,
    /// Whether it is the host that was asked.
    pub here: bool,
    /// Of its agent, as the host sees it that was asked; `None` without one.
    #[serde(default)]
    pub state: Option<NodeState>,
    /// Since when it is in this state, unless it is alive; RFC 3339 in UTC.
    #[serde(default)]
    pub since: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Its agent holds its lock in the store.
    Alive,
    /// It does not, and has not said why.
    Missing,
    /// It has been missing for the grace period: its endpoints are withdrawn.
    Dead,
    /// Its agent was stopped in an orderly way: its data path goes on.
    Stopped,
}

impl NodeState {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Missing => "missing",
            Self::Dead => "dead",
            Self::Stopped => "stopped",
        }
    }
}

/// `node inspect`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeDetail {
    #[serde(flatten)]
    pub node: Node,
    /// Its endpoints in the store, which go when it is forgotten.
    pub endpoints: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub node_id: String,
    pub version: String,
    pub underlay: Underlay,
    pub store: Store,
    /// Whether the data path has been brought in line with the store since the agent's start.
    pub synced: bool,
    /// The snapshot of the store that the agent works from; `None` once it has read the store itself.
    #[serde(default)]
    pub snapshot: Option<SnapshotStatus>,
    /// Largest inner IP packet on this host by network with endpoints here.
    pub networks: BTreeMap<String, NetworkStatus>,
    /// All networks in the store.
    pub networks_total: usize,
    /// Of this host.
    pub endpoints: usize,
    pub peers: Vec<Peer>,
    /// Hosts whose agents are missing, dead or stopped.
    #[serde(default)]
    pub absent: Vec<Node>,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Underlay {
    pub device: String,
    /// This host's VTEP addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub mtu: u16,
    /// Where the early filter runs.
    pub xdp: String,
    /// Where frames from peers are decapsulated: `tc` or `xdp`.
    pub decap: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Store {
    pub address: String,
    pub up: bool,
    /// RFC 3339 in UTC; `None` while up.
    pub down_since: Option<String>,
    /// How long ago that is.
    pub down_seconds: Option<u64>,
    /// Why it is down.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// When the store was heard of last, RFC 3339 in UTC.
    pub taken: String,
    /// How long ago that is.
    pub age_seconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkStatus {
    pub vni: Vni,
    pub mtu: u16,
    /// Of this host.
    pub endpoints: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    pub address: IpAddr,
    /// Whether there is a route to it.
    pub route: bool,
    /// MAC of the next hop, when it is known.
    pub next_hop: Option<MacAddr>,
}
