//! Which index each VTEP has, and the outer headers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use overlay_common::layout::{PeerIndex, PeerValue, TunnelValue};
use overlay_common::maps::MAX_TUNNELS;
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::packet::encap::{Template, destination};

use super::{PeerEnd, Problem, World};
use crate::datapath::rows::Rows;
use crate::store::schema::{NodeId, NodeRecord};

/// As Linux sends its own tunnels.
const TTL: u8 = 64;

/// The other hosts.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) addresses: BTreeMap<IpKey, PeerValue>,
    nodes: BTreeMap<NodeId, PeerIndex>,
    pub(super) ends: BTreeMap<PeerIndex, PeerEnd>,
}

impl Peers {
    pub(super) fn assign(world: &World<'_>, current: &Rows, problems: &mut Vec<Problem>) -> Self {
        let mut peers = Self::default();
        let mut free = FreeIndexes::new(current);
        for (&id, node) in world.nodes {
            if id == world.node {
                continue;
            }
            let Some((first, others)) = usable_addresses(world, node, problems) else {
                continue;
            };
            if node.port != world.port {
                problems.push(Problem::OtherPort {
                    node: node.name.clone(),
                    port: node.port,
                    own: world.port,
                });
            }
            let known = peers.addresses.get(&IpAddr::from(first).into()).copied();
            let index = if let Some(PeerValue { index }) = known {
                peers.shares(index, node, first, problems);
                index
            } else {
                let Some(index) = free.take(current, first) else {
                    problems.push(Problem::TooManyPeers {
                        node: node.name.clone(),
                        max: MAX_TUNNELS - 1,
                    });
                    continue;
                };
                let end = PeerEnd {
                    name: node.name.clone(),
                    address: first,
                    port: node.port,
                };
                peers.ends.insert(index, end);
                index
            };
            peers.nodes.insert(id, index);
            for ip in std::iter::once(first).chain(others) {
                let key = IpAddr::from(ip).into();
                let owner = *peers.addresses.entry(key).or_insert(PeerValue { index });
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
            .filter_map(|(&index, end)| Some((index, tunnel(world, end.address.into(), end.port)?)))
            .collect()
    }

    fn shares(
        &mut self,
        index: PeerIndex,
        node: &NodeRecord,
        ip: Ipv4Addr,
        problems: &mut Vec<Problem>,
    ) {
        problems.push(Problem::SharedAddress {
            first: self.name(index),
            second: node.name.clone(),
            ip,
        });
    }
}

/// The outer headers to an address, if there is a way to it.
pub(super) fn tunnel(world: &World<'_>, address: IpAddr, port: u16) -> Option<TunnelValue> {
    let hop = world.next_hops.get(&address)?;
    let IpAddr::V4(destination) = address else {
        return None;
    };
    let template = Template {
        source_mac: hop.source_mac,
        next_hop: hop.mac.unwrap_or(MacAddr([0; 6])),
        source: world.vtep.octets(),
        destination: destination.octets(),
        port,
        ttl: TTL,
    };
    Some(TunnelValue {
        header: template.to_bytes(),
        header_len: OVERHEAD_V4 as u32,
        ifindex: hop.ifindex,
        flags: hop.mac.map_or(0, |_| tunnel_flags::RESOLVED),
        mtu: hop.mtu,
    })
}

/// The IPv4 addresses of a node except our own: the one to send to, and the others.
fn usable_addresses(
    world: &World<'_>,
    node: &NodeRecord,
    problems: &mut Vec<Problem>,
) -> Option<(Ipv4Addr, Vec<Ipv4Addr>)> {
    let mut own = false;
    let mut usable = Vec::new();
    for ip in &node.vteps {
        let IpAddr::V4(ip) = *ip else {
            continue;
        };
        if ip == world.vtep {
            own = true;
            problems.push(Problem::OwnAddress {
                node: node.name.clone(),
                ip,
            });
        } else {
            usable.push(ip);
        }
    }
    if usable.is_empty() {
        if !own {
            problems.push(Problem::NoAddress {
                node: node.name.clone(),
            });
        }
        return None;
    }
    Some((usable.remove(0), usable))
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
    fn take(&mut self, current: &Rows, ip: Ipv4Addr) -> Option<PeerIndex> {
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
fn index_of(rows: &Rows, ip: Ipv4Addr) -> Option<PeerIndex> {
    let PeerValue { index } = *rows.peers.get(&IpAddr::from(ip).into())?;
    if index == 0 || index >= MAX_TUNNELS {
        return None;
    }
    let is_its_own = if let Some(tunnel) = rows.tunnels.get(&index) {
        destination(tunnel) == IpAddr::from(ip)
    } else {
        rows.peers
            .values()
            .filter(|peer| peer.index == index)
            .count()
            == 1
    };
    is_its_own.then_some(index)
}
