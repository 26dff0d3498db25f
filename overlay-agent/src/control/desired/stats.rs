//! Which slot of STATS counts each pair of network and peer.

use std::collections::{BTreeMap, BTreeSet};

use overlay_common::layout::{PeerIndex, StatsKey, VniValue};
use overlay_common::maps::MAX_STATS;
use overlay_common::net::Vni;

use super::Problem;
use super::floods::Groups;
use super::members::Member;
use super::peers::Peers;
use crate::datapath::rows::Rows;

/// Takes the counts of pairs for which there was no slot; in no index, so nobody reads it.
const OVERFLOW: u32 = 0;

/// Slots by pair.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) index: BTreeMap<StatsKey, u32>,
}

impl Slots {
    /// A pair that has a slot keeps it while both its network and its peer are known, so that
    /// its counters do not start anew when an endpoint goes and comes back.
    pub(super) fn assign(
        vnis: &BTreeMap<u32, VniValue>,
        members: &[Member<'_>],
        peers: &Peers,
        groups: &Groups,
        current: &Rows,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut used = BTreeSet::from([OVERFLOW]);
        let mut index = BTreeMap::new();
        for (&key, &slot) in &current.stats_index {
            let known =
                key.peer == 0 || peers.ends.contains_key(&key.peer) || groups.contains(key.peer);
            if slot < MAX_STATS && used.insert(slot) && vnis.contains_key(&key.vni) && known {
                index.insert(key, slot);
            }
        }
        let own = vnis.keys().map(|&vni| StatsKey { vni, peer: 0 });
        let needed = members.iter().map(|member| StatsKey {
            vni: member.vni.get(),
            peer: member.peer,
        });
        let flooded = groups.pairs().map(|(vni, peer)| StatsKey { vni, peer });
        let mut free = (0..MAX_STATS).filter(|slot| !used.contains(slot));
        for key in own.chain(needed).chain(flooded).collect::<BTreeSet<_>>() {
            if index.contains_key(&key) {
                continue;
            }
            match (free.next(), Vni::new(key.vni)) {
                (Some(slot), _) => {
                    index.insert(key, slot);
                }
                (None, Some(vni)) => problems.push(Problem::TooManyCounters {
                    vni,
                    peer: peers.name(key.peer),
                    max: MAX_STATS - 1,
                }),
                (None, None) => {}
            }
        }
        Self { index }
    }

    pub(super) fn slot(&self, vni: Vni, peer: PeerIndex) -> u32 {
        let key = StatsKey {
            vni: vni.get(),
            peer,
        };
        self.index.get(&key).copied().unwrap_or(OVERFLOW)
    }
}
