//! Keys and values of the maps. Explicit padding, plain integers, sizes asserted: any change
//! here changes [`crate::maps::ABI`].

mod counters;
mod forwarding;
mod handover;
mod network;

pub use counters::{DropKey, FALLBACK_ENTRIES, PathStats, StatsKey, fallback_index};
pub use forwarding::{
    FdbKey, FdbValue, PeerIndex, PeerValue, TUNNEL_HEADER_MAX, TunnelValue, fdb_flags, tunnel_flags,
};
pub use handover::Handover;
pub use network::{
    AllowedKey, EndpointValue, FLOOD_MAX, FloodMode, FloodPeer, FloodValue, NeighborKey,
    NeighborValue, VniValue, Vtep, endpoint_flags, neighbor_flags, vni_flags, vtep_flags,
};

/// Asserts the size of a shared type and, for the host, that it is plain data.
macro_rules! shared {
    ($type:ty, $size:literal) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);

        #[cfg(feature = "user")]
        // SAFETY: `repr(C)` integers and byte arrays with explicit padding: every bit pattern
        // is valid and no byte is uninitialised.
        unsafe impl aya::Pod for $type {}
    };
}
use shared;

shared!(crate::net::IpKey, 16);
