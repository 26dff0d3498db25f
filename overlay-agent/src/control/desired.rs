//! What the data path should hold, given what the store and this host say. Pure.

mod alone;
mod floods;
mod members;
mod network;
mod peers;
mod stats;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlay_common::layout::{FdbKey, FdbValue, NeighborKey, NeighborValue, PeerIndex, fdb_flags};
use overlay_common::net::{MacAddr, Vni};

use super::problem::Problem;
use crate::config::Dscp;
use crate::datapath::rows::Rows;
use crate::host::nexthop::NextHop;
use crate::host::underlay::Vteps;
use crate::store::schema::{
    EndpointId, EndpointPath, EndpointRecord, FloodMode, NetworkRecord, NodeId, NodeRecord,
};
pub use alone::{Changed, Settled, alone};
use floods::Groups;
pub use floods::groups;
use peers::Peers;
pub(super) use peers::tunnel_address;
use stats::Slots;

/// Bytes that encapsulation adds to an inner IP packet, over IPv4 and over IPv6.
pub const OVERHEAD: u16 = 50;
pub const OVERHEAD_V6: u16 = 70;

/// Everything that decides what the data path holds.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// This node.
    pub node: NodeId,
    /// Its name in the store.
    pub name: &'a str,
    /// The addresses that this host sends from and peers send to.
    pub vteps: Vteps,
    /// UDP port of this host.
    pub port: u16,
    pub outer: Outer,
    /// Largest IP packet of the underlay device in bytes.
    pub underlay_mtu: u16,
    /// By name.
    pub networks: &'a BTreeMap<String, NetworkRecord>,
    pub nodes: &'a BTreeMap<NodeId, NodeRecord>,
    /// Nodes that are as if they were not there, and their endpoints.
    pub dead: &'a BTreeSet<NodeId>,
    /// Of all nodes; those of this node are ignored in favour of `local`.
    pub endpoints: &'a BTreeMap<EndpointPath, EndpointRecord>,
    /// Endpoints of this host whose interface exists.
    pub local: &'a BTreeMap<EndpointId, Local>,
    /// By VTEP address; an address without entry has no route.
    pub next_hops: &'a BTreeMap<IpAddr, NextHop>,
}

/// What the settings say of the outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// TTL or hop limit.
    pub ttl: u8,
    pub dscp: Dscp,
    /// Whether the UDP checksum is filled in.
    pub udp_checksum: bool,
}

impl World<'_> {
    /// The network of a VNI; `None` when no readable record has it.
    fn network(&self, vni: Vni) -> Option<&NetworkRecord> {
        self.networks.values().find(|record| record.vni == vni)
    }
}

/// An endpoint of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub vni: Vni,
    /// Host side of its veth.
    pub ifindex: u32,
    pub mac: MacAddr,
    pub ip4: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    /// What it may send from besides these.
    pub allow_ips: Vec<IpNet>,
    /// It forwards packets of others.
    pub forwards: bool,
}

/// The rows and whatever was left out of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub rows: Rows,
    /// Sorted, each once.
    pub problems: Vec<Problem>,
    /// Who is behind each peer index.
    pub peers: BTreeMap<PeerIndex, PeerEnd>,
    /// The index of each node that can be reached.
    pub nodes: BTreeMap<NodeId, PeerIndex>,
    /// Largest IP packet in bytes that the underlay takes to every peer.
    pub path_mtu: u16,
    /// Bytes that the longest outer headers in use take from an inner IP packet.
    pub overhead: u16,
}

/// The other end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEnd {
    /// Name of its node.
    pub name: String,
    /// Where frames are sent to.
    pub address: IpAddr,
    pub port: u16,
}

/// Largest inner IP packet on a network, with so many bytes of overhead.
pub fn network_mtu(explicit: Option<u16>, path_mtu: u16, overhead: u16) -> u16 {
    let room = path_mtu.saturating_sub(overhead);
    explicit.map_or(room, |mtu| mtu.min(room))
}

/// Bytes that the longest outer headers of a network take: those to a peer, or to its group.
pub fn network_overhead(flood: FloodMode, peers: u16) -> u16 {
    match flood {
        FloodMode::Multicast(IpAddr::V6(_)) => peers.max(OVERHEAD_V6),
        FloodMode::Multicast(IpAddr::V4(_)) | FloodMode::Drop | FloodMode::Replicate => peers,
    }
}

/// Only networks with an endpoint on this host get rows; every host gets its peer and tunnel.
/// Numbers that `current` already has (peer indexes, slots in STATS) stay, and none that is in
/// use there gets another meaning, because the changes are not made at one instant.
pub fn desired(world: &World<'_>, current: &Rows) -> Desired {
    let mut problems = Vec::new();
    let peers = Peers::assign(world, current, &mut problems);
    let overhead = peers.overhead(world);
    let path_mtu = path_mtu(world);
    let world = &World {
        underlay_mtu: path_mtu,
        ..*world
    };
    let vnis = network::vni_rows(world, overhead, current, &mut problems);
    let members = members::chosen(world, &vnis, &peers, &mut problems);
    let groups = Groups::assign(world, &vnis, &peers, current, &mut problems);
    let stats = Slots::assign(&vnis, &members, &peers, &groups, current, &mut problems);

    let mut rows = Rows {
        tunnels: peers.tunnels(world),
        ..Rows::default()
    };
    rows.tunnels.extend(groups.tunnels(world));
    // Sorted at once: that is faster than a place for each.
    let mut fdb = Vec::with_capacity(members.len());
    let mut neighbors = Vec::with_capacity(members.len());
    for member in &members {
        let key = FdbKey::new(member.vni.get(), member.mac);
        let value = FdbValue {
            ifindex: member.ifindex,
            peer: member.peer,
            stats: stats.slot(member.vni, member.peer),
            generation: 0,
            vni: member.vni.get(),
            flags: if member.forwards {
                fdb_flags::FORWARDS
            } else {
                0
            },
        };
        fdb.push((key, with_generation(value, current.fdb.get(&key))));
        for ip in member.neighbors() {
            let key = NeighborKey {
                vni: member.vni.get(),
                ip: ip.into(),
            };
            let value = NeighborValue {
                mac: member.mac,
                flags: 0,
            };
            neighbors.push((key, value));
        }
        if let Some(row) = vnis.get(&member.vni.get()).filter(|_| member.ifindex != 0) {
            let network = world.network(member.vni);
            rows.endpoints
                .insert(member.ifindex, network::endpoint_row(member, network, row));
            rows.allowed.extend(network::allowed_rows(member));
        }
    }
    rows.fdb = fdb.into_iter().collect();
    rows.neighbors = neighbors.into_iter().collect();
    for record in world.networks.values() {
        if vnis.contains_key(&record.vni.get()) {
            network::add_gateways(&mut rows, record, stats.slot(record.vni, 0));
        }
    }
    rows.vnis = vnis;
    floods::fill(&mut rows, &members, &groups, &stats, &mut problems);
    rows.peers = peers.addresses;
    rows.stats_index = stats.index;

    problems.sort();
    problems.dedup();
    Desired {
        rows,
        problems,
        peers: peers.ends,
        nodes: peers.nodes,
        path_mtu,
        overhead,
    }
}

/// Of the device and of the routes out of it, whichever is smaller.
fn path_mtu(world: &World<'_>) -> u16 {
    let routes = world.next_hops.values().map(|hop| hop.mtu);
    routes.fold(world.underlay_mtu, |least, mtu| {
        u16::try_from(mtu).map_or(least, |mtu| mtu.min(least))
    })
}

/// The generation grows exactly when the endpoint moves.
fn with_generation(value: FdbValue, current: Option<&FdbValue>) -> FdbValue {
    let Some(current) = current else {
        return value;
    };
    let moved = (current.ifindex, current.peer) != (value.ifindex, value.peer);
    FdbValue {
        generation: current.generation.wrapping_add(u32::from(moved)),
        ..value
    }
}

#[cfg(test)]
mod tests;
