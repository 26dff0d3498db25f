//! Which index each VTEP has, and the outer headers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use overlay_common::layout::{PeerIndex, PeerValue, TunnelValue, tunnel_flags};
use overlay_common::maps::MAX_TUNNELS;
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::packet::encap::{Template, destination};

use super::{OVERHEAD, OVERHEAD_V6, PeerEnd, Problem, World};
use crate::config::Dscp;
use crate::datapath::rows::Rows;
use crate::host::underlay::Vteps;
use crate::store::schema::{NodeId, NodeRecord};

/// The other hosts.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) addresses: BTreeMap<IpKey, PeerValue>,
    pub(super) nodes: BTreeMap<NodeId, PeerIndex>,
    pub(super) ends: BTreeMap<PeerIndex, PeerEnd>,
}

impl Peers {
    pub(super) fn assign(world: &World<'_>, current: &Rows, problems: &mut Vec<Problem>) -> Self {
        let mut peers = Self::default();
        let mut free = FreeIndexes::new(current);
        for (&id, node) in world.nodes {
            if id == world.node || world.dead.contains(&id) {
                continue;
            }
            let own = |ip: &&IpAddr| world.vteps.contains(**ip);
            for &ip in node.vteps.iter().filter(own) {
                problems.push(Problem::OwnAddress {
                    node: node.name.clone(),
                    ip,
                });
            }
            let Some(address) = tunnel_address(world.vteps, node) else {
                if node.vteps.iter().any(|ip| !world.vteps.contains(*ip)) {
                    problems.push(Problem::NoCommonFamily {
                        node: node.name.clone(),
                        theirs: families(&node.vteps),
                        own: world.name.to_owned(),
                        ours: families(&world.vteps.addresses()),
                    });
                }
                continue;
            };
            if node.port != world.port {
                problems.push(Problem::OtherPort {
                    node: node.name.clone(),
                    port: node.port,
                    own: world.port,
                });
            }
            let known = peers.addresses.get(&address.into()).copied();
            let index = if let Some(PeerValue { index }) = known {
                peers.shares(index, node, address, problems);
                index
            } else {
                let Some(index) = free.take(current, address) else {
                    problems.push(Problem::TooManyPeers {
                        node: node.name.clone(),
                        max: MAX_TUNNELS - 1,
                    });
                    continue;
                };
                let end = PeerEnd {
                    name: node.name.clone(),
                    address,
                    port: node.port,
                };
                peers.ends.insert(index, end);
                index
            };
            peers.nodes.insert(id, index);
            // It may send from any of its addresses.
            for &ip in node.vteps.iter().filter(|ip| !world.vteps.contains(**ip)) {
                let owner = *peers
                    .addresses
                    .entry(ip.into())
                    .or_insert(PeerValue { index });
                if owner.index != index {
                    peers.shares(owner.index, node, ip, problems);
                }
            }
        }
        peers
    }

    /// Index of a node; `None` for one that is unknown or cannot be reached.
    pub(super) fn index(&self, node: NodeId) -> Option<PeerIndex> {
        self.nodes.get(&node).copied()
    }

    pub(super) fn name(&self, index: PeerIndex) -> String {
        let end = self.ends.get(&index);
        end.map_or_else(|| index.to_string(), |end| end.name.clone())
    }

    pub(super) fn tunnels(&self, world: &World<'_>) -> BTreeMap<PeerIndex, TunnelValue> {
        self.ends
            .iter()
            .filter_map(|(&index, end)| Some((index, tunnel(world, end.address, end.port)?)))
            .collect()
    }

    /// Bytes that the longest outer headers in use take from an inner IP packet.
    pub(super) fn overhead(&self, world: &World<'_>) -> u16 {
        if world.vteps.ip4.is_none() || self.ends.values().any(|end| end.address.is_ipv6()) {
            OVERHEAD_V6
        } else {
            OVERHEAD
        }
    }

    fn shares(
        &mut self,
        index: PeerIndex,
        node: &NodeRecord,
        ip: IpAddr,
        problems: &mut Vec<Problem>,
    ) {
        problems.push(Problem::SharedAddress {
            first: self.name(index),
            second: node.name.clone(),
            ip,
        });
    }
}

/// The address of a node to send to, which is none of this host's: its first IPv4 address, whose
/// headers are 20 bytes shorter, if this host has IPv4 as well, else its first IPv6 address. The
/// node comes to the same family.
pub(in crate::control) fn tunnel_address(vteps: Vteps, node: &NodeRecord) -> Option<IpAddr> {
    let usable = |ip: &&IpAddr| vteps.has_family_of(**ip) && !vteps.contains(**ip);
    let mut usable = node.vteps.iter().filter(usable);
    let first = usable.clone().next();
    usable.find(|ip| ip.is_ipv4()).or(first).copied()
}

fn families(addresses: &[IpAddr]) -> &'static str {
    match (
        addresses.iter().any(IpAddr::is_ipv4),
        addresses.iter().any(IpAddr::is_ipv6),
    ) {
        (true, false) => "IPv4",
        (false, true) => "IPv6",
        (true, true) => "IPv4 and IPv6",
        (false, false) => "none",
    }
}

/// The outer headers to an address; `None` without a way to it and without an address of its
/// family on this host.
pub(super) fn tunnel(world: &World<'_>, address: IpAddr, port: u16) -> Option<TunnelValue> {
    let hop = world.next_hops.get(&address)?;
    let outer = world.outer;
    let (tos, dscp) = match outer.dscp {
        Dscp::Fixed(dscp) => (dscp << 2, 0),
        Dscp::Inherit => (0, tunnel_flags::COPY_DSCP),
    };
    // The kernel, who would compute it, does not send to a group that this host is a member of.
    let headers_are_ours = address.is_multicast() && address.is_ipv6();
    let checksum = if outer.udp_checksum && !headers_are_ours {
        tunnel_flags::UDP_CHECKSUM
    } else {
        0
    };
    let source = world.vteps.towards(address)?;
    let template = Template {
        source_mac: hop.source_mac,
        next_hop: hop.mac.unwrap_or(MacAddr([0; 6])),
        source,
        destination: address,
        port,
        ttl: outer.ttl,
        tos,
    };
    Some(TunnelValue {
        header: template.to_bytes(),
        header_len: template.header_len(),
        ifindex: hop.ifindex,
        flags: template.flags() | checksum | dscp,
        mtu: hop.mtu,
    })
}

/// Indexes that no row has now.
struct FreeIndexes {
    used: BTreeSet<PeerIndex>,
    next: PeerIndex,
}

impl FreeIndexes {
    fn new(current: &Rows) -> Self {
        let peers = current.peers.values().map(|peer| peer.index);
        let counted = current.stats_index.keys().map(|key| key.peer);
        let tunnels = current.tunnels.keys().copied();
        Self {
            used: peers.chain(counted).chain(tunnels).collect(),
            next: 1,
        }
    }

    /// The index that `ip` has already, else a free one.
    fn take(&mut self, current: &Rows, ip: IpAddr) -> Option<PeerIndex> {
        if let Some(index) = index_of(current, ip) {
            return Some(index);
        }
        while self.used.contains(&self.next) {
            self.next += 1;
        }
        if self.next >= MAX_TUNNELS {
            return None;
        }
        self.used.insert(self.next);
        Some(self.next)
    }
}

/// The index whose tunnel goes to `ip`, or that only `ip` has: an index that several addresses
/// share stays with the one that frames are sent to.
fn index_of(rows: &Rows, ip: IpAddr) -> Option<PeerIndex> {
    let PeerValue { index } = *rows.peers.get(&ip.into())?;
    if index == 0 || index >= MAX_TUNNELS {
        return None;
    }
    let is_its_own = if let Some(tunnel) = rows.tunnels.get(&index) {
        destination(tunnel) == ip
    } else {
        rows.peers
            .values()
            .filter(|peer| peer.index == index)
            .count()
            == 1
    };
    is_its_own.then_some(index)
}
