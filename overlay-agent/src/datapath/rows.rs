//! The tables of the data path as plain values: what the agent wants in them and what an audit
//! found there have one type, so that a plan is a diff of two of these.

use std::collections::BTreeMap;

use overlay_common::layout::{
    AllowedKey, EndpointValue, FdbKey, FdbValue, FloodPeer, NeighborKey, NeighborValue, PeerIndex,
    PeerValue, StatsKey, TunnelValue, VniValue,
};
use overlay_common::maps;
use overlay_common::net::IpKey;

/// Contents of the maps that the agent owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// By ifindex of the host side of the veth.
    pub endpoints: BTreeMap<u32, EndpointValue>,
    pub fdb: BTreeMap<FdbKey, FdbValue>,
    pub neighbors: BTreeMap<NeighborKey, NeighborValue>,
    pub peers: BTreeMap<IpKey, PeerValue>,
    /// Entries whose header is in use; an absent index is [`TunnelValue::NONE`] in the map.
    pub tunnels: BTreeMap<PeerIndex, TunnelValue>,
    /// By VNI.
    pub vnis: BTreeMap<u32, VniValue>,
    /// Slot in STATS of each counted pair.
    pub stats_index: BTreeMap<StatsKey, u32>,
    /// By VNI.
    pub floods: BTreeMap<u32, Flood>,
    /// Addresses that endpoints may send from besides their own.
    pub allowed: BTreeMap<Allowed, u32>,
}

/// Who gets what a network floods: a row of FLOODS without its unused room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flood {
    /// At most [`overlay_common::layout::FLOOD_MAX`].
    pub peers: Vec<FloodPeer>,
    /// At most [`overlay_common::layout::FLOOD_MAX`].
    pub locals: Vec<u32>,
    pub local_stats: u32,
}

/// Key of ALLOWED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    pub key: AllowedKey,
    /// In bits of the whole key: 32 of the ifindex and those of the 16-byte address.
    pub prefix_len: u32,
}

/// One change to one table: `Some` writes the entry, `None` removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Boxed like all that is longer than the rows of which there are very many.
    Endpoint(u32, Option<Box<EndpointValue>>),
    Fdb(FdbKey, Option<FdbValue>),
    Neighbor(NeighborKey, Option<NeighborValue>),
    Peer(IpKey, Option<PeerValue>),
    Tunnel(PeerIndex, Option<Box<TunnelValue>>),
    /// Removing a network removes the counts of its drops.
    Vni(u32, Option<VniValue>),
    /// Adding a pair zeroes its slot.
    StatsIndex(StatsKey, Option<u32>),
    Flood(u32, Option<Flood>),
    Allowed(Allowed, Option<u32>),
}

impl Change {
    /// The maps that changes are made to.
    pub const MAPS: [&str; 9] = [
        maps::ENDPOINTS,
        maps::FDB,
        maps::NEIGHBORS,
        maps::PEERS,
        maps::TUNNELS,
        maps::VNIS,
        maps::STATS_INDEX,
        maps::FLOODS,
        maps::ALLOWED,
    ];

    /// Name of the map that this one changes.
    pub fn map(&self) -> &'static str {
        match self {
            Self::Endpoint(..) => maps::ENDPOINTS,
            Self::Fdb(..) => maps::FDB,
            Self::Neighbor(..) => maps::NEIGHBORS,
            Self::Peer(..) => maps::PEERS,
            Self::Tunnel(..) => maps::TUNNELS,
            Self::Vni(..) => maps::VNIS,
            Self::StatsIndex(..) => maps::STATS_INDEX,
            Self::Flood(..) => maps::FLOODS,
            Self::Allowed(..) => maps::ALLOWED,
        }
    }
}
