//! How many addresses are left, by what is known here: the store is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use overlay_common::net::Vni;

use super::agent::State;
use crate::ipam::{Family, Pool};
use crate::metrics::Left;

impl State {
    /// Of the networks that are followed, by name and family. Addresses that no endpoint has count as free.
    pub(super) fn free_addresses(&mut self, now: Instant) -> BTreeMap<(String, Family), Left> {
        let view = &self.view;
        let mut taken: BTreeMap<Vni, Vec<IpAddr>> = BTreeMap::new();
        let mut allowed: BTreeMap<Vni, BTreeSet<IpAddr>> = BTreeMap::new();
        for (path, record) in &view.endpoints {
            taken
                .entry(path.net)
                .or_default()
                .extend(record.addresses());
            let also = record.allowed_addresses();
            allowed.entry(path.net).or_default().extend(also);
        }
        let mut left = BTreeMap::new();
        let mut counted = BTreeSet::new();
        let networks = view.networks.iter();
        for (name, record) in networks.filter(|(_, record)| view.knows(record.vni)) {
            let net = record.vni;
            let pool = Pool::of(record).without(allowed.remove(&net).unwrap_or_default());
            let taken = taken.remove(&net).unwrap_or_default();
            for family in Family::ALL {
                if pool.subnets_of(family).is_empty() {
                    continue;
                }
                let free = pool.left(family, &taken);
                let trend = self.trends.entry((net, family)).or_default();
                let seconds = trend.seconds_left(now, free);
                counted.insert((net, family));
                left.insert((name.clone(), family), Left { free, seconds });
            }
        }
        self.trends.retain(|key, _| counted.contains(key));
        left
    }
}
