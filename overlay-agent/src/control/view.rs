//! What the store says, as far as this host has read it.

mod saved;

use std::collections::{BTreeMap, BTreeSet};

use overlay_common::net::Vni;

use super::desired::Changed;
use crate::store::client::SessionId;
use crate::store::schema::{
    self, BadKey, EndpointId, EndpointPath, EndpointRecord, Keys, NetworkRecord, NodeId, NodeRecord,
};
use crate::store::{KvPair, NodeMembers};
use saved::Old;
pub use saved::Part;

/// What has arrived of one node on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// All that it has there.
    pub whole: Option<NodeMembers>,
    /// And what has changed since.
    pub ones: BTreeMap<EndpointId, Option<EndpointRecord>>,
}

/// What endpoints were before they changed.
type Before = BTreeMap<EndpointPath, Option<EndpointRecord>>;

/// The folders that are followed, and the endpoints of the networks that are. A key that cannot be read now keeps what it said when it could: the data
/// path pays for somebody's mistake only when it has to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By name.
    pub networks: BTreeMap<String, NetworkRecord>,
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// The live sessions of the nodes' agents.
    pub sessions: BTreeMap<NodeId, SessionId>,
    /// Of this node, and of the networks that are known.
    pub endpoints: BTreeMap<EndpointPath, EndpointRecord>,
    /// Networks whose endpoints have been read.
    known: BTreeSet<Vni>,
    bad: [Vec<BadKey>; 3],
    bad_members: BTreeMap<(Vni, NodeId), Vec<BadKey>>,
    read: [bool; 3],
    /// What of it is from a snapshot.
    old: Old,
    /// What differs from the snapshot.
    unsaved: BTreeSet<Part>,
}

/// How many keys that were skipped are named.
pub(super) const SHOWN: usize = 20;

const NETWORKS: usize = 0;
const NODES: usize = 1;
const OWN: usize = 2;

impl View {
    /// Whether all folders have been read. Before that, what is missing means nothing.
    pub fn is_complete(&self) -> bool {
        self.read.iter().all(|read| *read)
    }

    /// How many keys were skipped.
    pub fn bad_count(&self) -> usize {
        let members = self.bad_members.values();
        self.bad.iter().chain(members).map(Vec::len).sum()
    }

    /// Keys that were skipped.
    pub fn bad_keys(&self) -> impl Iterator<Item = &BadKey> {
        self.bad.iter().chain(self.bad_members.values()).flatten()
    }

    /// Whether the endpoints of a network have been read.
    pub fn knows(&self, net: Vni) -> bool {
        self.known.contains(&net)
    }

    /// Whether those of these networks have been that are not removed.
    pub fn knows_all(&self, nets: &BTreeSet<Vni>) -> bool {
        let known = |net: &Vni| self.knows(*net) || self.network_of(*net).is_none();
        nets.iter().all(known)
    }

    /// Name and record of the network with a VNI.
    pub fn network_of(&self, vni: Vni) -> Option<(&String, &NetworkRecord)> {
        self.networks.iter().find(|(_, record)| record.vni == vni)
    }

    pub fn set_networks(&mut self, keys: &Keys, pairs: &[KvPair]) {
        let listing = schema::networks(keys, pairs);
        let items = listing.items.into_iter();
        let new = items.map(|item| (item.name, item.record)).collect();
        let key = |name: &String| keys.network(name);
        self.networks = kept(new, &mut self.networks, &listing.bad, key);
        self.finish(NETWORKS, listing.bad);
    }

    pub fn set_nodes(&mut self, keys: &Keys, pairs: &[KvPair]) {
        let listing = schema::nodes(keys, pairs);
        let items = listing.items.into_iter();
        let new = items.map(|item| (item.id, item.record)).collect();
        let key = |id: &NodeId| keys.node(*id);
        // Also of a node whose record cannot be read.
        let session =
            |pair: &KvPair| Some((keys.parse_node(&pair.key).ok()?, pair.session.clone()?));
        self.sessions = pairs.iter().filter_map(session).collect();
        self.nodes = kept(new, &mut self.nodes, &listing.bad, key);
        self.finish(NODES, listing.bad);
    }

    /// The endpoints of one node, wherever they are.
    pub fn set_endpoints_of(&mut self, node: NodeId, keys: &Keys, pairs: &[KvPair]) {
        let listing = schema::endpoints(keys, pairs);
        let items = listing.items.into_iter();
        let new = items.map(|item| (item.path, item.record)).collect();
        let key = |path: &EndpointPath| keys.endpoint(path);
        let mut before = self
            .endpoints
            .extract_if(.., |path, _| path.node == node)
            .collect::<BTreeMap<_, _>>();
        let new: BTreeMap<EndpointPath, EndpointRecord> = new;
        let paths = before.keys().chain(new.keys());
        let parts = paths.map(|path| Part::Members(path.node, path.net));
        self.unsaved.extend(parts);
        self.endpoints
            .extend(kept(new, &mut before, &listing.bad, key));
        self.finish(OWN, listing.bad);
    }

    /// What has arrived of a network's endpoints on other nodes than `own`, whose are known already. Returns
    /// what is different now; `None` when the network was not known before.
    pub fn take_members(
        &mut self,
        net: Vni,
        mut nodes: BTreeMap<NodeId, Arrived>,
        own: NodeId,
        keys: &Keys,
    ) -> Option<Vec<Changed>> {
        let mut changed = BTreeMap::new();
        let known = !self.known.insert(net);
        self.old.networks.remove(&net);
        nodes.remove(&own);
        if !known {
            // Nobody knows what the snapshot has of it.
            self.unsaved.extend([Part::Endpoints, Part::Whole]);
            self.fill(net, &mut nodes);
        }
        for (node, arrived) in nodes {
            if let Some(whole) = arrived.whole {
                self.set_members(net, whole, keys, &mut changed);
            }
            for (id, record) in arrived.ones {
                let path = EndpointPath { node, net, id };
                self.readable(&path, keys);
                self.set(path, record, &mut changed);
            }
        }
        let changed = changed.into_iter().map(|(path, before)| Changed {
            after: self.endpoints.get(&path).cloned(),
            path,
            before,
        });
        let changed = changed.filter(|changed| changed.before != changed.after);
        let changed: Vec<_> = changed.collect();
        let parts = changed.iter().map(|changed| &changed.path);
        let parts = parts.map(|path| Part::Members(path.node, path.net));
        self.unsaved.extend(parts);
        known.then_some(changed)
    }

    /// Takes all that nodes have on a network of which nothing is known. At once: there may be very many, and a map
    /// that grows one by one has room for as many again.
    fn fill(&mut self, net: Vni, nodes: &mut BTreeMap<NodeId, Arrived>) {
        let mut all = Vec::new();
        for (node, arrived) in nodes {
            if let Some(whole) = arrived.whole.take() {
                let endpoints = whole.endpoints.into_iter();
                all.extend(endpoints.map(|endpoint| (endpoint.path, endpoint.record)));
                self.note_bad(net, *node, whole.bad);
            }
        }
        self.endpoints.append(&mut all.into_iter().collect());
    }

    /// Keeps in `changed` what was there at first.
    fn set(&mut self, path: EndpointPath, record: Option<EndpointRecord>, changed: &mut Before) {
        if self.endpoints.get(&path) == record.as_ref() {
            return;
        }
        let before = match record {
            Some(record) => self.endpoints.insert(path.clone(), record),
            None => self.endpoints.remove(&path),
        };
        changed.entry(path).or_insert(before);
    }

    fn set_members(&mut self, net: Vni, whole: NodeMembers, keys: &Keys, changed: &mut Before) {
        let node = whole.node;
        let bad: BTreeSet<&str> = whole.bad.iter().map(|bad| bad.key.as_str()).collect();
        if whole.complete {
            let is_there: BTreeSet<_> = whole
                .endpoints
                .iter()
                .map(|endpoint| &endpoint.path)
                .collect();
            let gone: Vec<_> = self
                .members(net, node)
                .filter(|path| {
                    !is_there.contains(path) && !bad.contains(keys.endpoint(path).as_str())
                })
                .cloned()
                .collect();
            for path in gone {
                self.set(path, None, changed);
            }
        }
        for endpoint in whole.endpoints {
            self.set(endpoint.path, Some(endpoint.record), changed);
        }
        self.note_bad(net, node, whole.bad);
    }

    /// What of a node's endpoints on a network was skipped.
    fn note_bad(&mut self, net: Vni, node: NodeId, bad: Vec<BadKey>) {
        tell(bad.iter());
        if bad.is_empty() {
            self.bad_members.remove(&(net, node));
        } else {
            self.bad_members.insert((net, node), bad);
        }
    }

    /// An endpoint that was read, or is gone, is not corrupt any more.
    fn readable(&mut self, path: &EndpointPath, keys: &Keys) {
        if let Some(bad) = self.bad_members.get_mut(&(path.net, path.node)) {
            let key = keys.endpoint(path);
            bad.retain(|bad| bad.key != key);
        }
    }

    /// The endpoints that are known of a node on a network.
    fn members(&self, net: Vni, node: NodeId) -> impl Iterator<Item = &EndpointPath> {
        let from = self.endpoints.range(EndpointPath::before(node, net)..);
        let paths = from.map(|(path, _)| path);
        paths.take_while(move |path| (path.node, path.net) == (node, net))
    }

    /// A network is not followed any more: what is known of others' endpoints on it grows old.
    pub fn forget(&mut self, net: Vni, own: NodeId) {
        if self.known.remove(&net) {
            self.unsaved.extend([Part::Endpoints, Part::Whole]);
        }
        self.old.networks.remove(&net);
        self.endpoints
            .retain(|path, _| path.net != net || path.node == own);
        self.bad_members.retain(|(other, _), _| *other != net);
    }

    fn finish(&mut self, folder: usize, bad: Vec<BadKey>) {
        let known: BTreeSet<&BadKey> = self.bad[folder].iter().collect();
        tell(bad.iter().filter(|bad| !known.contains(bad)));
        self.bad[folder] = bad;
        self.read[folder] = true;
        self.old.folders[folder] = false;
        self.unsaved.extend(match folder {
            NETWORKS => Some(Part::Networks),
            NODES => Some(Part::Nodes),
            _ => None,
        });
    }
}

/// Not each of thousands that somebody has written below the wrong prefix.
fn tell<'a>(mut bad: impl Iterator<Item = &'a BadKey>) {
    for bad in bad.by_ref().take(SHOWN) {
        tracing::warn!("skipped a key of the store: {bad}");
    }
    let more = bad.count();
    if more > 0 {
        tracing::warn!("skipped {more} more keys of the store");
    }
}

/// `new`, and from `old` what has become unreadable.
fn kept<K: Ord, V>(
    mut new: BTreeMap<K, V>,
    old: &mut BTreeMap<K, V>,
    bad: &[BadKey],
    key: impl Fn(&K) -> String,
) -> BTreeMap<K, V> {
    if !bad.is_empty() {
        let bad: BTreeSet<&str> = bad.iter().map(|bad| bad.key.as_str()).collect();
        for (item, record) in std::mem::take(old) {
            if bad.contains(key(&item).as_str()) {
                new.entry(item).or_insert(record);
            }
        }
    }
    new
}

#[cfg(test)]
mod tests;
