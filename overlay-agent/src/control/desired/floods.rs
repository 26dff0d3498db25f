//! Who gets what the networks of this host flood, and the tunnels to their groups.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use overlay_common::layout::{
    FLOOD_MAX, FloodMode, FloodPeer, PeerIndex, TunnelValue, VniValue, endpoint_flags,
};
use overlay_common::maps::MAX_TUNNELS;
use overlay_common::net::{IpKey, Vni};

use super::members::Member;
use super::peers::{Peers, tunnel};
use super::stats::Slots;
use super::{Problem, World};
use crate::datapath::rows::{Flood, Rows};
use crate::store::schema::{self, NetworkRecord};

/// The part of a network's row that says how it floods.
pub(super) fn mode(record: &NetworkRecord) -> VniValue {
    let (mode, group) = match record.flood {
        schema::FloodMode::Drop => (FloodMode::Drop, IpKey::default()),
        schema::FloodMode::Replicate => (FloodMode::Replicate, IpKey::default()),
        schema::FloodMode::Multicast(group) => (FloodMode::Multicast, group.into()),
    };
    VniValue {
        flood: mode as u32,
        flood_rate: record.flood_rate(),
        group,
        ..VniValue::default()
    }
}

/// The groups of the underlay that networks of this host flood to.
pub fn groups(rows: &Rows) -> BTreeSet<IpAddr> {
    rows.vnis.values().filter_map(group).collect()
}

/// The group of a network that has one.
fn group(network: &VniValue) -> Option<IpAddr> {
    let group = network.group;
    group.is_multicast().then(|| group.into())
}

/// The groups as ends of tunnels: counted like peers, from which they are told by their place, the
/// end of the table.
#[derive(Debug, Default)]
pub(super) struct Groups {
    indexes: BTreeMap<IpAddr, PeerIndex>,
    /// The index of each network's group.
    networks: BTreeMap<u32, PeerIndex>,
}

impl Groups {
    pub(super) fn assign(
        world: &World<'_>,
        vnis: &BTreeMap<u32, VniValue>,
        peers: &Peers,
        current: &Rows,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut groups = Self::default();
        let wanted: BTreeMap<u32, IpAddr> = vnis
            .iter()
            .filter_map(|(&vni, network)| Some((vni, group(network)?)))
            .collect();
        let mut used: BTreeSet<PeerIndex> = peers.ends.keys().copied().collect();
        // What has an index keeps it, and nobody else gets it meanwhile.
        for (vni, ip) in &wanted {
            let now = current.vnis.get(vni);
            let kept = now.filter(|now| group(now) == Some(*ip) && now.flood_tunnel != 0);
            if let Some(index) = kept.map(|now| now.flood_tunnel)
                && !used.contains(&index)
            {
                groups.indexes.entry(*ip).or_insert(index);
            }
        }
        used.extend(groups.indexes.values());
        used.extend(current.tunnels.keys());
        used.extend(current.stats_index.keys().map(|key| key.peer));
        let mut free = (1..MAX_TUNNELS).rev().filter(|index| !used.contains(index));
        for (vni, ip) in wanted {
            let known = groups.indexes.get(&ip).copied();
            let Some(index) = known.or_else(|| free.next()) else {
                problems.push(Problem::TooManyPeers {
                    node: ip.to_string(),
                    max: MAX_TUNNELS - 1,
                });
                continue;
            };
            groups.indexes.insert(ip, index);
            groups.networks.insert(vni, index);
            if !world.next_hops.contains_key(&ip) {
                problems.push(Problem::NoGroupRoute { group: ip });
            }
        }
        groups
    }

    /// Whether the index is a group's.
    pub(super) fn contains(&self, index: PeerIndex) -> bool {
        self.networks.values().any(|known| *known == index)
    }

    /// The pairs of network and group that are counted apart.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u32, PeerIndex)> {
        self.networks.iter().map(|(&vni, &index)| (vni, index))
    }

    /// Outer headers to the groups that there is a way to.
    pub(super) fn tunnels<'a>(
        &'a self,
        world: &'a World<'_>,
    ) -> impl Iterator<Item = (PeerIndex, TunnelValue)> + 'a {
        self.indexes
            .iter()
            .filter_map(|(group, &index)| Some((index, tunnel(world, *group, world.port)?)))
    }
}

/// Fills in what follows from the rest of the rows: who gets copies, and which endpoints send any.
pub(super) fn fill(
    rows: &mut Rows,
    members: &[Member<'_>],
    groups: &Groups,
    slots: &Slots,
    problems: &mut Vec<Problem>,
) {
    for (&number, network) in &mut rows.vnis {
        network.flood_tunnel = groups.networks.get(&number).copied().unwrap_or(0);
        let Some(vni) = Vni::new(number) else {
            continue;
        };
        let mode = FloodMode::from_number(network.flood);
        if mode == FloodMode::Drop {
            continue;
        }
        let here = || members.iter().filter(|member| member.vni == vni);
        let peers: BTreeSet<PeerIndex> = match mode {
            FloodMode::Multicast if network.flood_tunnel != 0 => [network.flood_tunnel].into(),
            FloodMode::Drop | FloodMode::Multicast => BTreeSet::new(),
            FloodMode::Replicate => here()
                .map(|member| member.peer)
                .filter(|p| *p != 0)
                .collect(),
        };
        let locals: BTreeSet<u32> = here()
            .map(|member| member.ifindex)
            .filter(|i| *i != 0)
            .collect();
        for (what, count) in [
            ("hosts", peers.len()),
            ("endpoints of this host", locals.len()),
        ] {
            if count > FLOOD_MAX {
                problems.push(Problem::TooManyToFlood {
                    vni,
                    what,
                    count,
                    max: FLOOD_MAX,
                });
            }
        }
        let flood = Flood {
            peers: peers
                .into_iter()
                .take(FLOOD_MAX)
                .map(|peer| FloodPeer {
                    peer,
                    stats: slots.slot(vni, peer),
                })
                .collect(),
            locals: locals.into_iter().take(FLOOD_MAX).collect(),
            local_stats: slots.slot(vni, 0),
        };
        rows.floods.insert(number, flood);
    }
    for endpoint in rows.endpoints.values_mut() {
        if rows.floods.contains_key(&endpoint.vni) {
            endpoint.flags |= endpoint_flags::FLOODS;
        }
    }
}
