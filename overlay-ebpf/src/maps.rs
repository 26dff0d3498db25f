//! Every map and global of the object.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, PerCpuHashMap};
use overlay_common::decide::Tables;
use overlay_common::layout::{
    DropKey, EndpointValue, FALLBACK_ENTRIES, FdbKey, FdbValue, NeighborKey, NeighborValue,
    PathStats, PeerValue, StatsKey, TunnelValue, VniValue, Vtep,
};
use overlay_common::maps as names;
use overlay_common::net::IpKey;

#[unsafe(no_mangle)]
pub static VTEP: Global<Vtep> = Global::new(Vtep {
    ip: IpKey([0; 16]),
    port: 0,
    fallback_ifindex: 0,
    log_drops: 0,
    pad: 0,
});

#[map]
pub static ENDPOINTS: HashMap<u32, EndpointValue> = HashMap::pinned(names::MAX_ENDPOINTS, 0);

#[map]
static FDB: HashMap<FdbKey, FdbValue> = HashMap::pinned(names::MAX_FDB, BPF_F_NO_PREALLOC);

#[map]
static NEIGHBORS: HashMap<NeighborKey, NeighborValue> =
    HashMap::pinned(names::MAX_NEIGHBORS, BPF_F_NO_PREALLOC);

#[map]
static PEERS: HashMap<IpKey, PeerValue> = HashMap::pinned(names::MAX_PEERS, BPF_F_NO_PREALLOC);

#[map]
pub static TUNNELS: Array<TunnelValue> = Array::pinned(names::MAX_TUNNELS, 0);

#[map]
static VNIS: HashMap<u32, VniValue> = HashMap::pinned(names::MAX_VNIS, BPF_F_NO_PREALLOC);

#[map]
pub static STATS: PerCpuArray<PathStats> = PerCpuArray::pinned(names::MAX_STATS, 0);

/// Only the agent reads and writes it; it is here to be pinned with the rest.
#[map]
static STATS_INDEX: HashMap<StatsKey, u32> = HashMap::pinned(names::MAX_STATS, BPF_F_NO_PREALLOC);

#[map]
pub static DROPS: PerCpuHashMap<DropKey, u64> =
    PerCpuHashMap::pinned(names::MAX_DROPS, BPF_F_NO_PREALLOC);

#[map]
pub static FALLBACKS: PerCpuArray<u64> = PerCpuArray::pinned(FALLBACK_ENTRIES, 0);

/// The maps as [`overlay_common::decide`] sees them.
pub struct KernelTables;

impl Tables for KernelTables {
    #[inline(always)]
    fn peer(&self, source: &IpKey) -> Option<PeerValue> {
        copied(PEERS.get_ptr(source))
    }

    #[inline(always)]
    fn fdb(&self, key: &FdbKey) -> Option<FdbValue> {
        copied(FDB.get_ptr(key))
    }

    #[inline(always)]
    fn neighbor(&self, key: &NeighborKey) -> Option<NeighborValue> {
        copied(NEIGHBORS.get_ptr(key))
    }

    #[inline(always)]
    fn vni(&self, vni: u32) -> Option<VniValue> {
        copied(VNIS.get_ptr(vni))
    }
}

/// The record of the endpoint behind an interface.
#[inline(always)]
pub fn endpoint(ifindex: u32) -> Option<EndpointValue> {
    copied(ENDPOINTS.get_ptr(ifindex))
}

/// Values are small and copied at once: an entry may be replaced under a reader, and what was
/// read then stays one decision.
#[inline(always)]
fn copied<V: Copy>(value: Option<*const V>) -> Option<V> {
    // SAFETY: the kernel returned the pointer for this lookup; the element's memory stays
    // mapped until the program ends (RCU).
    value.map(|value| unsafe { *value })
}
