//! What of a view a snapshot has, and what is from one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use overlay_common::net::Vni;

use super::{NETWORKS, NODES, OWN, View};
use crate::store::schema::{EndpointPath, EndpointRecord, Keys, NodeId, encode};

/// Something that is written as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Which of the others are complete.
    Whole,
    Networks,
    Nodes,
    /// All endpoints.
    Endpoints,
    /// Those of a node on a network.
    Members(NodeId, Vni),
}

/// What has not been read from the store, but from a snapshot of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Old {
    pub(super) folders: [bool; 3],
    pub(super) networks: BTreeSet<Vni>,
}

/// Keys and values as the store has them.
type Entries = Vec<(String, Vec<u8>)>;

impl View {
    /// Whether something is from a snapshot.
    pub fn is_old(&self) -> bool {
        self.old.folders.contains(&true) || !self.old.networks.is_empty()
    }

    /// Whether this host's endpoints are.
    pub fn is_own_old(&self) -> bool {
        self.old.folders[OWN]
    }

    /// The nodes that are known to have endpoints on a network.
    pub fn nodes_on(&self, net: Vni) -> BTreeSet<NodeId> {
        let paths = self.endpoints.keys().filter(|path| path.net == net);
        paths.map(|path| path.node).collect()
    }

    /// Takes over the endpoints of a snapshot, as far as anybody will follow them: this host's own, and those of
    /// its networks, and those it is about to be on `also`, that are known as a whole.
    pub fn restore_endpoints(
        &mut self,
        endpoints: BTreeMap<EndpointPath, EndpointRecord>,
        own: NodeId,
        also: &BTreeSet<Vni>,
        is_known: impl Fn(&Vni) -> bool,
    ) {
        self.endpoints = endpoints;
        let here = self.endpoints.keys().filter(|path| path.node == own);
        let nets = here.map(|path| path.net).chain(also.iter().copied());
        self.known = nets.filter(is_known).collect();
        let known = &self.known;
        self.endpoints
            .retain(|path, _| path.node == own || known.contains(&path.net));
        self.read[OWN] = true;
    }

    /// Goes on with a snapshot where nothing has been read.
    pub fn go_on_with(&mut self, snapshot: Self, own: NodeId) {
        if !self.read[NETWORKS] {
            self.networks = snapshot.networks;
        }
        if !self.read[NODES] {
            self.nodes = snapshot.nodes;
        }
        let is_read = |path: &EndpointPath| match path.node == own {
            true => self.read[OWN],
            false => self.known.contains(&path.net),
        };
        let endpoints = snapshot.endpoints.into_iter();
        let endpoints: Vec<_> = endpoints.filter(|(path, _)| !is_read(path)).collect();
        self.endpoints.extend(endpoints);
        self.old.folders = self.read.map(|read| !read);
        self.old.networks = snapshot.known.difference(&self.known).copied().collect();
        self.known.extend(snapshot.known);
        self.read = [true; 3];
        self.unsave_all();
    }

    pub fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Whether it concerns a node's endpoints.
    pub fn has_unsaved_of(&self, node: NodeId) -> bool {
        let mut parts = self.unsaved.iter();
        parts.any(|part| matches!(part, Part::Members(of, _) if *of == node))
    }

    pub fn take_unsaved(&mut self) -> BTreeSet<Part> {
        std::mem::take(&mut self.unsaved)
    }

    /// Nobody knows what is in the snapshot.
    pub fn unsave_all(&mut self) {
        let all = [Part::Whole, Part::Networks, Part::Nodes, Part::Endpoints];
        self.unsaved.extend(all);
    }

    /// Prefixes below which every key is known.
    pub fn whole(&self, own: NodeId, keys: &Keys) -> Vec<String> {
        let folders = [keys.networks(), keys.nodes(), keys.endpoints_of(own)];
        let folders = folders.into_iter().zip(self.read);
        let folders = folders.filter_map(|(folder, read)| read.then_some(folder));
        let networks = self.known.iter().map(|net| keys.index_of(*net));
        folders.chain(networks).collect()
    }

    pub fn network_entries(&self, keys: &Keys) -> Entries {
        let networks = self.networks.iter();
        networks
            .map(|(name, record)| (keys.network(name), encode(record)))
            .collect()
    }

    pub fn node_entries(&self, keys: &Keys) -> Entries {
        let nodes = self.nodes.iter();
        nodes
            .map(|(id, record)| (keys.node(*id), encode(record)))
            .collect()
    }

    /// A node's endpoints on a network.
    pub fn member_entries(&self, node: NodeId, net: Vni, keys: &Keys) -> Entries {
        let members = self.members(net, node);
        let of = |path| Some((keys.endpoint(path), encode(self.endpoints.get(path)?)));
        members.filter_map(of).collect()
    }

    /// Some endpoints in their order, and the last of them; `None` when there are no more.
    pub fn endpoint_entries(
        &self,
        after: Bound<&EndpointPath>,
        most: usize,
        keys: &Keys,
    ) -> (Entries, Option<EndpointPath>) {
        let range = self.endpoints.range((after, Bound::Unbounded));
        let (mut entries, mut last) = (Vec::new(), None);
        for (path, record) in range.take(most) {
            entries.push((keys.endpoint(path), encode(record)));
            last = Some(path);
        }
        let last = last.filter(|_| entries.len() == most).cloned();
        (entries, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::view::Arrived;
    use crate::store::schema::EndpointId;

    const OWN_NODE: NodeId = NodeId::new(1);

    fn keys() -> Keys {
        Keys::new("overlay/")
    }

    fn net(vni: u32) -> Vni {
        Vni::new(vni).unwrap()
    }

    fn path(node: u64, vni: u32, id: &str) -> EndpointPath {
        EndpointPath {
            node: NodeId::new(node),
            net: net(vni),
            id: id.parse().unwrap(),
        }
    }

    fn record(ip: &str) -> EndpointRecord {
        let json = format!(r#"{{"ip4":"{ip}","mac":"02:00:00:00:00:01","new":"field"}}"#);
        serde_json::from_str(&json).unwrap()
    }

    const A: &str = "00000000000000aa";

    /// A view of three endpoints on networks 1 and 2, and what a snapshot of it is made of.
    fn saved() -> BTreeMap<EndpointPath, EndpointRecord> {
        [
            (path(1, 1, A), record("10.0.0.1")),
            (path(2, 1, A), record("10.0.0.2")),
            (path(2, 2, A), record("10.0.0.3")),
        ]
        .into()
    }

    fn restored() -> View {
        let mut snapshot = View::default();
        snapshot.set_networks(&keys(), &[]);
        snapshot.set_nodes(&keys(), &[]);
        snapshot.restore_endpoints(saved(), OWN_NODE, &BTreeSet::new(), |_| true);
        let mut view = View::default();
        view.go_on_with(snapshot, OWN_NODE);
        view
    }

    #[test]
    fn a_snapshot_serves_until_the_store_was_read() {
        let mut view = restored();
        assert!(view.is_complete() && view.is_old() && view.is_own_old());
        // Network 2 has no endpoint here, so nobody follows it.
        assert!(view.knows(net(1)) && !view.knows(net(2)));
        assert_eq!(view.endpoints.len(), 2);
        assert_eq!(view.nodes_on(net(1)).len(), 2);

        view.set_networks(&keys(), &[]);
        view.set_nodes(&keys(), &[]);
        assert!(view.is_own_old());
        view.set_endpoints_of(OWN_NODE, &keys(), &[]);
        assert!(!view.is_own_old() && view.is_old());
        let taken = view.take_members(net(1), BTreeMap::new(), OWN_NODE, &keys());
        assert_eq!(taken, Some(Vec::new()), "a known network, and no change");
        assert!(!view.is_old());
    }

    #[test]
    fn what_was_read_is_not_replaced() {
        let mut view = View::default();
        view.set_endpoints_of(OWN_NODE, &keys(), &[]);
        let mut snapshot = View::default();
        snapshot.restore_endpoints(saved(), OWN_NODE, &BTreeSet::new(), |_| true);
        view.go_on_with(snapshot, OWN_NODE);
        assert!(view.is_complete() && !view.is_own_old());
        let left: Vec<_> = view.endpoints.keys().cloned().collect();
        assert_eq!(left, [path(2, 1, A)]);
    }

    #[test]
    fn a_change_is_written_alone() {
        let mut view = restored();
        view.take_unsaved();
        let id: EndpointId = A.parse().unwrap();
        let ones = [(id, Some(record("10.0.0.9")))].into();
        let arrived = Arrived { whole: None, ones };
        let nodes: BTreeMap<_, _> = [(NodeId::new(2), arrived)].into();
        view.take_members(net(1), nodes.clone(), OWN_NODE, &keys());
        let part = Part::Members(NodeId::new(2), net(1));
        assert_eq!(view.take_unsaved(), [part].into());
        assert!(!view.has_unsaved_of(OWN_NODE));
        // The same again is no change.
        view.take_members(net(1), nodes, OWN_NODE, &keys());
        assert!(!view.has_unsaved());

        let (key, value) = view
            .member_entries(NodeId::new(2), net(1), &keys())
            .remove(0);
        assert_eq!(key, keys().endpoint(&path(2, 1, A)));
        let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(value["ip4"], "10.0.0.9");
        assert_eq!(value["new"], "field", "a field that nobody knows is kept");

        view.forget(net(1), OWN_NODE);
        assert!(view.unsaved.contains(&Part::Endpoints));
        assert_eq!(view.whole(OWN_NODE, &keys()).len(), 3);
    }

    #[test]
    fn all_endpoints_in_pieces() {
        let view = restored();
        let (first, last) = view.endpoint_entries(Bound::Unbounded, 1, &keys());
        let last = last.unwrap();
        let (second, end) = view.endpoint_entries(Bound::Excluded(&last), 1, &keys());
        let (none, over) =
            view.endpoint_entries(Bound::Excluded(end.as_ref().unwrap()), 1, &keys());
        assert!(first[0].0 < second[0].0);
        assert!(none.is_empty() && over.is_none());
    }
}
