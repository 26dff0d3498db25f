//! Every map and global of the object.

use core::hint::black_box;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, DevMap, HashMap, LpmTrie, PerCpuArray, PerCpuHashMap, ProgramArray};
use aya_ebpf::programs::TcContext;
use overlay_common::decide::Tables;
use overlay_common::layout::{
    AllowedKey, DropKey, EndpointValue, FALLBACK_ENTRIES, FdbKey, FdbValue, FloodValue,
    NeighborKey, NeighborValue, PathStats, PeerIndex, PeerValue, StatsKey, TunnelValue, VniValue,
    Vtep,
};
use overlay_common::maps as names;
use overlay_common::net::IpKey;

#[map]
static VTEP: Array<Vtep> = Array::pinned(1, 0);

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

#[map]
static ALLOWED: LpmTrie<AllowedKey, u32> = LpmTrie::pinned(names::MAX_ALLOWED, BPF_F_NO_PREALLOC);

#[map]
static FLOODS: HashMap<u32, FloodValue> = HashMap::pinned(names::MAX_FLOODS, BPF_F_NO_PREALLOC);

/// When the next flooded frame of a network is due by its rate, in nanoseconds of the kernel's
/// monotonic clock.
#[map]
static FLOOD_CLOCKS: HashMap<u32, u64> = HashMap::pinned(names::MAX_FLOODS, BPF_F_NO_PREALLOC);

/// What `from_endpoint` goes on with. Pinned, because the kernel empties it when no process holds it
/// any more.
#[map]
static PROGRAMS: ProgramArray = ProgramArray::pinned(1, 0);

/// Goes on with [`names::ENDPOINT_EXCEPTION`]; returns only if that is not there.
#[inline(always)]
pub fn call_endpoint_exception(ctx: &TcContext) {
    // SAFETY: the context is the one that the program was called with.
    unsafe { PROGRAMS.tail_call(ctx, names::ENDPOINT_EXCEPTION_SLOT) }
}

/// The host side of the veth that leads to the agent's service. The kernel removes the entry with the
/// device, and that goes with the agent.
#[map]
static SERVICE: DevMap = DevMap::pinned(1, 0);

/// The ifindex of the service's device; `None` without an agent.
#[inline(always)]
pub fn service() -> Option<u32> {
    SERVICE.get_ifindex(0)
}

/// Where answers are made, which are too long for the stack. Of this object alone.
#[map]
static SCRATCH: PerCpuArray<[u8; SCRATCH_LEN]> = PerCpuArray::with_max_entries(1, 0);

const SCRATCH_LEN: usize = 128;

/// `N` bytes of this CPU's, used by nobody else until the program ends: programs are not
/// interrupted by one another.
#[inline(always)]
pub fn scratch<const N: usize>() -> Option<&'static mut [u8; N]> {
    const { assert!(N <= SCRATCH_LEN) };
    let bytes = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's, at least as long, and stays mapped until the program
    // ends; each program asks once.
    Some(unsafe { &mut *bytes.cast::<[u8; N]>() })
}

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

    /// No call: the kernel looks arrays up inline.
    #[inline(always)]
    fn ends_at(&self, peer: PeerIndex, address: &IpKey) -> bool {
        TUNNELS
            .get(peer)
            .is_some_and(|tunnel| tunnel.ends_at(address))
    }

    #[inline(always)]
    fn allowed(&self, key: &AllowedKey) -> bool {
        is_allowed(key)
    }
}

/// In a stack frame of its own: few endpoints need it, and the key is long.
#[inline(never)]
fn is_allowed(key: &AllowedKey) -> bool {
    /// Bits of [`AllowedKey`].
    const WHOLE: u32 = 160;

    ALLOWED.get(Key::new(WHOLE, *black_box(key))).is_some()
}

/// This host's tunnel ends. The kernel looks arrays up inline: this is no call.
#[inline(always)]
pub fn vtep() -> Option<&'static Vtep> {
    VTEP.get(0)
}

/// Who gets what a network floods.
#[inline(always)]
pub fn flood(vni: u32) -> Option<*const FloodValue> {
    FLOODS.get_ptr(vni)
}

/// The flood clock of a network, made when there is none; `None` when there is no room.
#[inline(always)]
pub fn flood_clock(vni: u32) -> Option<*mut u64> {
    if let Some(clock) = FLOOD_CLOCKS.get_ptr_mut(vni) {
        return Some(clock);
    }
    FLOOD_CLOCKS.insert(vni, 0, 0).ok()?;
    FLOOD_CLOCKS.get_ptr_mut(vni)
}

/// The record of the endpoint behind an interface. Not copied, for want of stack: each field is read
/// where it is needed.
#[inline(always)]
pub fn endpoint(ifindex: u32) -> Option<&'static EndpointValue> {
    let value = ENDPOINTS.get_ptr(ifindex)?;
    // SAFETY: the element stays mapped until the program ends (RCU).
    Some(unsafe { &*value })
}

/// Values are small and copied at once: an entry may be replaced under a reader, and what was
/// read then stays one decision.
#[inline(always)]
fn copied<V: Copy>(value: Option<*const V>) -> Option<V> {
    // SAFETY: the kernel returned the pointer for this lookup; the element's memory stays
    // mapped until the program ends (RCU).
    value.map(|value| unsafe { *value })
}
