//! Names and default sizes of the maps and programs.

/// Version of everything that outlives one agent: map layouts, sizes, the meaning of numbers.
/// Part of the pin path, so a new layout never meets old maps.
pub const ABI: u32 = 3;

pub const ENDPOINTS: &str = "ENDPOINTS";
pub const FDB: &str = "FDB";
pub const NEIGHBORS: &str = "NEIGHBORS";
pub const PEERS: &str = "PEERS";
pub const TUNNELS: &str = "TUNNELS";
pub const VNIS: &str = "VNIS";
pub const STATS: &str = "STATS";
pub const STATS_INDEX: &str = "STATS_INDEX";
pub const DROPS: &str = "DROPS";
pub const FALLBACKS: &str = "FALLBACKS";
pub const VTEP: &str = "VTEP";
pub const ALLOWED: &str = "ALLOWED";
pub const FLOODS: &str = "FLOODS";
pub const FLOOD_CLOCKS: &str = "FLOOD_CLOCKS";
pub const PROGRAMS: &str = "PROGRAMS";
pub const SERVICE: &str = "SERVICE";

/// Every pinned map.
pub const ALL: [&str; 16] = [
    ENDPOINTS,
    FDB,
    NEIGHBORS,
    PEERS,
    TUNNELS,
    VNIS,
    STATS,
    STATS_INDEX,
    DROPS,
    FALLBACKS,
    VTEP,
    ALLOWED,
    FLOODS,
    FLOOD_CLOCKS,
    PROGRAMS,
    SERVICE,
];

pub const MAX_ENDPOINTS: u32 = 4096;
pub const MAX_FDB: u32 = 131_072;
pub const MAX_NEIGHBORS: u32 = 262_144;
/// Two addresses per peer.
pub const MAX_PEERS: u32 = 2 * MAX_TUNNELS;
pub const MAX_TUNNELS: u32 = 8192;
pub const MAX_VNIS: u32 = 4096;
/// Pairs of (VNI, peer) that are counted apart.
pub const MAX_STATS: u32 = 16_384;
pub const MAX_DROPS: u32 = 32_768;
pub const MAX_ALLOWED: u32 = 16_384;
/// Networks of one host that flood.
pub const MAX_FLOODS: u32 = MAX_VNIS;

pub const UNDERLAY_FILTER: &str = "underlay_filter";
pub const FROM_UNDERLAY: &str = "from_underlay";
pub const FROM_ENDPOINT: &str = "from_endpoint";
/// What [`FROM_ENDPOINT`] goes on with where a frame is not plain unicast.
pub const ENDPOINT_EXCEPTION: &str = "endpoint_exception";
/// Its place in [`PROGRAMS`].
pub const ENDPOINT_EXCEPTION_SLOT: u32 = 0;
pub const FROM_FALLBACK: &str = "from_fallback";
pub const TO_UNDERLAY: &str = "to_underlay";
pub const FROM_SERVICE: &str = "from_service";
