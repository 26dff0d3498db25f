//! What the store says, as far as this host has read it.

use std::collections::{BTreeMap, BTreeSet};

use overlay_common::net::Vni;

use crate::store::KvPair;
use crate::store::schema::{
    self, BadKey, EndpointPath, EndpointRecord, Keys, NetworkRecord, NodeId, NodeRecord,
};

/// The three folders. A key that cannot be read now keeps what it said when it could: the data
/// path pays for somebody's mistake only when it has to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By name.
    pub networks: BTreeMap<String, NetworkRecord>,
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    pub endpoints: BTreeMap<EndpointPath, EndpointRecord>,
    bad: [Vec<BadKey>; 3],
    read: [bool; 3],
}

const NETWORKS: usize = 0;
const NODES: usize = 1;
const ENDPOINTS: usize = 2;

impl View {
    /// Whether all folders have been read. Before that, what is missing means nothing.
    pub fn is_complete(&self) -> bool {
        self.read.iter().all(|read| *read)
    }

    /// Keys that were skipped.
    pub fn bad_keys(&self) -> impl Iterator<Item = &BadKey> {
        self.bad.iter().flatten()
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
        self.nodes = kept(new, &mut self.nodes, &listing.bad, key);
        self.finish(NODES, listing.bad);
    }

    pub fn set_endpoints(&mut self, keys: &Keys, pairs: &[KvPair]) {
        let listing = schema::endpoints(keys, pairs);
        let items = listing.items.into_iter();
        let new = items.map(|item| (item.path, item.record)).collect();
        let key = |path: &EndpointPath| keys.endpoint(path);
        self.endpoints = kept(new, &mut self.endpoints, &listing.bad, key);
        self.finish(ENDPOINTS, listing.bad);
    }

    fn finish(&mut self, folder: usize, bad: Vec<BadKey>) {
        for bad in bad.iter().filter(|bad| !self.bad[folder].contains(bad)) {
            tracing::warn!("skipped a key of the store: {bad}");
        }
        self.bad[folder] = bad;
        self.read[folder] = true;
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
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> KvPair {
        let json = serde_json::json!({"Key": key, "CreateIndex": 1, "ModifyIndex": 1, "LockIndex": 0, "Flags": 0});
        KvPair {
            value: value.into(),
            ..serde_json::from_value(json).unwrap()
        }
    }

    fn network(vni: u32) -> String {
        format!(r#"{{"vni":{vni},"subnets":["10.1.0.0/16"]}}"#)
    }

    #[test]
    fn a_corrupt_key_is_reported_alone_and_keeps_its_last_meaning() {
        let keys = Keys::new("overlay/");
        let (blue, red) = (keys.network("blue"), keys.network("red"));
        let mut view = View::default();
        view.set_networks(&keys, &[pair(&blue, &network(1)), pair(&red, &network(2))]);
        assert_eq!(view.networks.len(), 2);
        assert_eq!(view.bad_keys().count(), 0);

        view.set_networks(&keys, &[pair(&blue, "{"), pair(&red, &network(3))]);
        assert_eq!(view.networks["blue"].vni.get(), 1);
        assert_eq!(view.networks["red"].vni.get(), 3);
        let bad: Vec<_> = view.bad_keys().map(|bad| bad.key.as_str()).collect();
        assert_eq!(bad, [blue.as_str()]);

        view.set_networks(&keys, &[pair(&red, &network(3))]);
        assert_eq!(view.networks.len(), 1, "a deleted key is gone");
        assert_eq!(view.bad_keys().count(), 0);
    }

    #[test]
    fn complete_when_all_three_were_read() {
        let keys = Keys::new("overlay/");
        let mut view = View::default();
        view.set_networks(&keys, &[]);
        view.set_nodes(&keys, &[]);
        assert!(!view.is_complete());
        view.set_endpoints(&keys, &[]);
        assert!(view.is_complete());
    }
}
