//! What the maps hold, as one value: written to the kernel by [`World::write`], read by the decisions
//! on the host through [`Tables`].

use std::collections::BTreeMap;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap};
use aya::{Ebpf, Pod};
use overlay_common::decide::Tables;
use overlay_common::layout::{
    AllowedKey, EndpointValue, FdbKey, FdbValue, FloodValue, NeighborKey, NeighborValue, PeerIndex,
    PeerValue, TunnelValue, VniValue, Vtep,
};
use overlay_common::maps;
use overlay_common::net::IpKey;

/// Bits of the part of an [`AllowedKey`] in front of the address.
const ALLOWED_IFINDEX_BITS: u32 = 32;

/// The content of every map that a program reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) vtep: Vtep,
    pub(crate) endpoints: BTreeMap<u32, EndpointValue>,
    pub(crate) fdb: BTreeMap<FdbKey, FdbValue>,
    pub(crate) neighbors: BTreeMap<NeighborKey, NeighborValue>,
    pub(crate) peers: BTreeMap<IpKey, PeerValue>,
    pub(crate) tunnels: BTreeMap<PeerIndex, TunnelValue>,
    pub(crate) vnis: BTreeMap<u32, VniValue>,
    pub(crate) floods: BTreeMap<u32, FloodValue>,
    /// Prefix length (IPv4 prefixes are 96 bits longer than they are written) and prefix.
    pub(crate) allowed: BTreeMap<(u32, AllowedKey), u32>,
}

impl World {
    /// Turns maps that hold `before` into maps that hold `self`.
    pub(crate) fn write(&self, before: &Self, ebpf: &mut Ebpf) {
        let mut vtep: Array<_, Vtep> = Array::try_from(ebpf.map_mut(maps::VTEP).unwrap()).unwrap();
        vtep.set(0, self.vtep, 0).unwrap();
        let map = ebpf.map_mut(maps::TUNNELS).unwrap();
        let mut tunnels: Array<_, TunnelValue> = Array::try_from(map).unwrap();
        for &peer in before.tunnels.keys() {
            tunnels.set(peer, TunnelValue::NONE, 0).unwrap();
        }
        for (&peer, tunnel) in &self.tunnels {
            tunnels.set(peer, *tunnel, 0).unwrap();
        }
        hash(ebpf, maps::ENDPOINTS, &before.endpoints, &self.endpoints);
        hash(ebpf, maps::FDB, &before.fdb, &self.fdb);
        hash(ebpf, maps::NEIGHBORS, &before.neighbors, &self.neighbors);
        hash(ebpf, maps::PEERS, &before.peers, &self.peers);
        hash(ebpf, maps::VNIS, &before.vnis, &self.vnis);
        hash(ebpf, maps::FLOODS, &before.floods, &self.floods);

        let map = ebpf.map_mut(maps::ALLOWED).unwrap();
        let mut allowed: LpmTrie<_, AllowedKey, u32> = LpmTrie::try_from(map).unwrap();
        let key = |(bits, key): (u32, AllowedKey)| Key::new(ALLOWED_IFINDEX_BITS + bits, key);
        for prefix in before.allowed.keys() {
            allowed.remove(&key(*prefix)).unwrap();
        }
        for (prefix, value) in &self.allowed {
            allowed.insert(&key(*prefix), *value, 0).unwrap();
        }
    }
}

fn hash<K: Pod + Ord, V: Pod + PartialEq>(
    ebpf: &mut Ebpf,
    name: &str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) {
    let mut map: HashMap<_, K, V> = HashMap::try_from(ebpf.map_mut(name).unwrap()).unwrap();
    for key in before.keys().filter(|key| !after.contains_key(key)) {
        map.remove(key).unwrap();
    }
    for (key, value) in after {
        if before.get(key) != Some(value) {
            map.insert(key, value, 0).unwrap();
        }
    }
}

impl Tables for World {
    fn peer(&self, source: &IpKey) -> Option<PeerValue> {
        self.peers.get(source).copied()
    }

    fn fdb(&self, key: &FdbKey) -> Option<FdbValue> {
        self.fdb.get(key).copied()
    }

    fn neighbor(&self, key: &NeighborKey) -> Option<NeighborValue> {
        self.neighbors.get(key).copied()
    }

    fn vni(&self, vni: u32) -> Option<VniValue> {
        self.vnis.get(&vni).copied()
    }

    fn ends_at(&self, peer: PeerIndex, address: &IpKey) -> bool {
        let tunnel = self.tunnels.get(&peer);
        tunnel.is_some_and(|tunnel| tunnel.ends_at(address))
    }

    fn allowed(&self, key: &AllowedKey) -> bool {
        let address = u128::from_be_bytes(key.ip.octets());
        self.allowed.keys().any(|(bits, prefix)| {
            let differing = address ^ u128::from_be_bytes(prefix.ip.octets());
            // A prefix of no bits has all of them behind it.
            let outside = differing.checked_shr(128 - bits).unwrap_or(0);
            prefix.ifindex == key.ifindex && outside == 0
        })
    }
}
