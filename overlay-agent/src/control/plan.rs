//! The changes that turn one state of the data path into another. Pure.

use std::collections::BTreeMap;

use crate::datapath::rows::{Change, Rows};

/// The changes, in an order in which no entry ever points to one that is not there yet or not
/// there any more: written from the tables that are pointed to, removed in reverse.
pub fn plan(desired: &Rows, actual: &Rows) -> Vec<Change> {
    let mut diff = Diff::default();
    diff.table(
        &desired.stats_index,
        &actual.stats_index,
        Change::StatsIndex,
    );
    diff.table(&desired.tunnels, &actual.tunnels, |key, value| {
        Change::Tunnel(key, value.map(Box::new))
    });
    diff.table(&desired.vnis, &actual.vnis, Change::Vni);
    diff.table(&desired.neighbors, &actual.neighbors, Change::Neighbor);
    // The programs take the sender of a frame from FDB and its tunnel, so PEERS has it as long as FDB does.
    diff.table(&desired.peers, &actual.peers, Change::Peer);
    diff.table(&desired.fdb, &actual.fdb, Change::Fdb);
    diff.table(&desired.floods, &actual.floods, Change::Flood);
    diff.table(&desired.allowed, &actual.allowed, Change::Allowed);
    diff.table(&desired.endpoints, &actual.endpoints, |key, value| {
        Change::Endpoint(key, value.map(Box::new))
    });
    let Diff {
        mut changes,
        removed,
    } = diff;
    changes.extend(removed.into_iter().rev());
    changes
}

/// Records in `rows` that `change` was made.
pub fn apply(rows: &mut Rows, change: &Change) {
    match change {
        Change::Endpoint(key, value) => set(&mut rows.endpoints, *key, value.as_deref().copied()),
        Change::Fdb(key, value) => set(&mut rows.fdb, *key, *value),
        Change::Neighbor(key, value) => set(&mut rows.neighbors, *key, *value),
        Change::Peer(key, value) => set(&mut rows.peers, *key, *value),
        Change::Tunnel(key, value) => set(&mut rows.tunnels, *key, value.as_deref().copied()),
        Change::Vni(key, value) => set(&mut rows.vnis, *key, *value),
        Change::StatsIndex(key, value) => set(&mut rows.stats_index, *key, *value),
        Change::Flood(key, value) => set(&mut rows.floods, *key, value.clone()),
        Change::Allowed(key, value) => set(&mut rows.allowed, *key, *value),
    }
}

fn set<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => table.insert(key, value),
        None => table.remove(&key),
    };
}

/// What to write, and what to remove in the reverse order.
#[derive(Default)]
struct Diff {
    changes: Vec<Change>,
    removed: Vec<Change>,
}

impl Diff {
    fn table<K: Ord + Copy, V: PartialEq + Clone>(
        &mut self,
        desired: &BTreeMap<K, V>,
        actual: &BTreeMap<K, V>,
        change: fn(K, Option<V>) -> Change,
    ) {
        let written = desired
            .iter()
            .filter(|(key, value)| actual.get(key) != Some(*value))
            .map(|(key, value)| change(*key, Some(value.clone())));
        self.changes.extend(written);
        let removed = actual
            .keys()
            .rev()
            .filter(|key| !desired.contains_key(key))
            .map(|key| change(*key, None));
        self.removed.extend(removed);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use overlay_common::layout::{
        AllowedKey, EndpointValue, FdbKey, FdbValue, NeighborKey, NeighborValue, PeerValue,
        StatsKey, TunnelValue, VniValue,
    };
    use overlay_common::net::{IpKey, MacAddr};
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::datapath::rows::{Allowed, Flood};

    fn table<K: Ord + Debug + Clone, V: Debug + Clone>(
        key: fn(u32) -> K,
        value: fn(u32) -> V,
    ) -> impl Strategy<Value = BTreeMap<K, V>> {
        btree_map((0..6u32).prop_map(key), (0..3u32).prop_map(value), 0..6)
    }

    fn mac(n: u32) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n as u8])
    }

    fn ip(n: u32) -> IpKey {
        IpKey::v4([192, 0, 2, n as u8])
    }

    fn allowed(n: u32) -> Allowed {
        let (ifindex, ip) = (n / 3, ip(n % 3));
        Allowed {
            key: AllowedKey { ifindex, ip },
            prefix_len: 160,
        }
    }

    prop_compose! {
        fn any_rows()(
            endpoints in table(|n| n, |vni| EndpointValue { vni, ..EndpointValue::default() }),
            fdb in table(|n| FdbKey::new(n / 3, mac(n % 3)), |peer| FdbValue { peer, ..FdbValue::default() }),
            neighbors in table(|n| NeighborKey { vni: n / 3, ip: ip(n % 3) }, |n| NeighborValue { mac: mac(n), flags: 0 }),
            peers in table(ip, |index| PeerValue { index }),
            tunnels in table(|n| n, |ifindex| TunnelValue { ifindex, ..TunnelValue::NONE }),
            vnis in table(|n| n, |mtu| VniValue { mtu, ..VniValue::default() }),
            stats_index in table(|n| StatsKey { vni: n / 3, peer: n % 3 }, |n| n),
            floods in table(|n| n, |local_stats| Flood { local_stats, ..Flood::default() }),
            allowed in table(allowed, |n| n),
        ) -> Rows {
            Rows { endpoints, fdb, neighbors, peers, tunnels, vnis, stats_index, floods, allowed }
        }
    }

    /// Rows in which every reference holds, made of the parts that a set of FDB entries needs.
    fn consistent(entries: &BTreeMap<(u32, u32), u32>) -> Rows {
        let mut rows = Rows::default();
        for (&(vni, host), &peer) in entries {
            let stats = vni * 10 + peer;
            rows.stats_index.insert(StatsKey { vni, peer }, stats);
            rows.vnis.insert(vni, VniValue::default());
            rows.tunnels.insert(peer, TunnelValue::NONE);
            rows.peers.insert(ip(peer), PeerValue { index: peer });
            let value = FdbValue {
                peer,
                stats,
                ..FdbValue::default()
            };
            rows.fdb.insert(FdbKey::new(vni, mac(host)), value);
            rows.endpoints.insert(
                vni * 10 + host,
                EndpointValue {
                    vni,
                    ..EndpointValue::default()
                },
            );
        }
        rows
    }

    fn references_hold(rows: &Rows) -> bool {
        rows.fdb.iter().all(|(key, value)| {
            let pair = StatsKey {
                vni: key.vni,
                peer: value.peer,
            };
            rows.stats_index.get(&pair) == Some(&value.stats)
                && rows.tunnels.contains_key(&value.peer)
                && rows.peers.values().any(|peer| peer.index == value.peer)
                && rows.vnis.contains_key(&key.vni)
        }) && rows
            .peers
            .values()
            .all(|peer| rows.tunnels.contains_key(&peer.index))
            && rows
                .endpoints
                .values()
                .all(|endpoint| rows.vnis.contains_key(&endpoint.vni))
    }

    proptest! {
        #[test]
        fn turns_actual_into_desired(desired in any_rows(), actual in any_rows()) {
            let mut rows = actual.clone();
            for change in plan(&desired, &actual) {
                apply(&mut rows, &change);
            }
            prop_assert_eq!(rows, desired);
        }

        #[test]
        fn of_equals_is_empty(rows in any_rows()) {
            prop_assert_eq!(plan(&rows, &rows), []);
        }

        #[test]
        fn keeps_every_reference_at_every_step(
            desired in btree_map((0..3u32, 0..4u32), 0..3u32, 0..8),
            actual in btree_map((0..3u32, 0..4u32), 0..3u32, 0..8),
        ) {
            let (desired, mut rows) = (consistent(&desired), consistent(&actual));
            for change in plan(&desired, &rows.clone()) {
                apply(&mut rows, &change);
                prop_assert!(references_hold(&rows), "after {:?}", change);
            }
        }
    }
}
