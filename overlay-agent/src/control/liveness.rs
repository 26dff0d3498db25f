//! Which hosts are dead, as this one sees it.
//!
//! A host whose agent has lost its session is *missing*; once it has been so for the grace period, it is dead,
//! and its endpoints leave the data path of this host. They stay in the store.
//!
//! To withdraw the living is worse than to keep the dead. So only time counts in which this host is sure of
//! the store, and a host from which frames arrive is not dead, whatever has become of its agent.

mod pulse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use overlay_common::layout::{PathStats, PeerIndex, StatsKey};

use super::view::View;
use crate::api::types::NodeState;
use crate::store::schema::{Node, NodeId, NodeRecord};
pub(super) use pulse::run;

/// Hosts whose agents are gone without having said so.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    missing: BTreeMap<NodeId, Missing>,
    dead: BTreeSet<NodeId>,
    /// The last look, unless nobody was missing then.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Missing {
    /// For people.
    since: SystemTime,
    /// How much of that counts.
    counted: Duration,
    /// Frames from it, at the last look.
    heard: Option<u64>,
}

impl Liveness {
    /// Takes over what the store says. Returns who is back that was dead.
    pub(super) fn update(&mut self, view: &View, own: NodeId) -> Vec<NodeId> {
        let is_missing = |id: &NodeId, record: &NodeRecord| {
            record.agent
                && record.stopped.is_none()
                && *id != own
                && !view.sessions.contains_key(id)
        };
        let all = view.nodes.iter();
        let now: BTreeSet<_> = all
            .filter(|(id, record)| is_missing(id, record))
            .map(|(id, _)| *id)
            .collect();
        self.missing.retain(|id, _| now.contains(id));
        let back = self.dead.extract_if(.., |id| !now.contains(id)).collect();
        for id in now {
            self.missing.entry(id).or_insert_with(|| Missing {
                since: SystemTime::now(),
                counted: Duration::ZERO,
                heard: None,
            });
        }
        back
    }

    pub(super) fn dead(&self) -> &BTreeSet<NodeId> {
        &self.dead
    }

    /// Who may die.
    pub(super) fn waiting(&self) -> impl Iterator<Item = NodeId> {
        let all = self.missing.keys().copied();
        all.filter(|id| !self.dead.contains(id))
    }

    /// Counts the time since the last look, but not more than `most`: this host may have slept, or its clock may
    /// have been asleep with it. Nothing counts unless this host is `sure` of the store. `heard` tells how many
    /// frames have come from a host. Returns whose time is over.
    pub(super) fn look(
        &mut self,
        now: Instant,
        most: Duration,
        sure: bool,
        heard: impl Fn(NodeId) -> u64,
        grace: Duration,
    ) -> Vec<NodeId> {
        let last = self.looked.take();
        let mut over = Vec::new();
        for id in self.waiting().collect::<Vec<_>>() {
            let Some(missing) = self.missing.get_mut(&id) else {
                continue;
            };
            self.looked = Some(now);
            let heard = Some(heard(id));
            // The first look only begins to count.
            if heard != missing.heard {
                missing.heard = heard;
                missing.counted = Duration::ZERO;
                continue;
            }
            if let Some(last) = last.filter(|_| sure) {
                missing.counted += now.saturating_duration_since(last).min(most);
            }
            if sure && missing.counted >= grace {
                over.push(id);
            }
        }
        over
    }

    /// Whose time is over and of whom the store still says that they are missing.
    pub(super) fn bury(&mut self, id: NodeId) -> bool {
        self.missing.contains_key(&id) && self.dead.insert(id)
    }

    /// State of a node's agent, and since when it has it, if that is known; nothing without an agent.
    pub(super) fn state_of(
        &self,
        id: NodeId,
        record: &NodeRecord,
        alive: bool,
    ) -> Option<(NodeState, Option<SystemTime>)> {
        if !record.agent {
            return None;
        }
        let since = self.missing.get(&id).map(|missing| missing.since);
        Some(match (alive, record.stopped) {
            (true, _) => (NodeState::Alive, None),
            (false, Some(seconds)) => {
                let stopped = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
                (NodeState::Stopped, stopped)
            }
            (false, None) if self.dead.contains(&id) => (NodeState::Dead, since),
            (false, None) => (NodeState::Missing, since),
        })
    }
}

/// The nodes without a live session. None at all where this host's own has none: then it is the store that has lost
/// the sessions, or hides them.
fn missing(nodes: &[Node], own: NodeId) -> BTreeSet<NodeId> {
    let is_locked = |node: &Node| node.id == own && node.session.is_some();
    if !nodes.iter().any(is_locked) {
        return BTreeSet::new();
    }
    let gone = nodes
        .iter()
        .filter(|node| node.session.is_none() && node.record.stopped.is_none());
    gone.map(|node| node.id).collect()
}

/// How many frames have come from each node. Nobody can tell two nodes apart that share an address: of these,
/// none is heard.
fn heard(
    nodes: &BTreeMap<NodeId, PeerIndex>,
    stats: &BTreeMap<StatsKey, PathStats>,
) -> BTreeMap<NodeId, u64> {
    let mut sums: BTreeMap<PeerIndex, u64> = BTreeMap::new();
    for (key, stats) in stats {
        *sums.entry(key.peer).or_default() += stats.rx_packets;
    }
    let mut users: BTreeMap<PeerIndex, usize> = BTreeMap::new();
    for index in nodes.values() {
        *users.entry(*index).or_default() += 1;
    }
    let alone = nodes.iter().filter(|(_, index)| users[index] == 1);
    alone
        .filter_map(|(id, index)| Some((*id, *sums.get(index)?)))
        .collect()
}
