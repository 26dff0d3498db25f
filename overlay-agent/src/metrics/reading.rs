//! What a scrape reads.

use std::collections::BTreeMap;

use overlay_common::layout::{DropKey, PathStats, PeerIndex, StatsKey};
use overlay_common::{Direction, FallbackCause};

use crate::datapath::MapUse;
use crate::ipam::Family;

/// Counters of the data path and state of the agent at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Names of the networks by VNI; others have the empty name.
    pub networks: BTreeMap<u32, String>,
    /// Names of the peers by index; others are not shown apart.
    pub peers: BTreeMap<PeerIndex, String>,
    pub stats: BTreeMap<StatsKey, PathStats>,
    /// By VNI: what was counted with peers that are gone.
    pub retired: BTreeMap<u32, PathStats>,
    pub drops: Vec<(DropKey, u64)>,
    pub fallbacks: Vec<(Direction, FallbackCause, u64)>,
    pub maps: Vec<MapUse>,
    pub store: StoreReading,
    /// Endpoints of this host by network name.
    pub endpoints: BTreeMap<String, u64>,
    /// By network name and family.
    pub addresses: BTreeMap<(String, Family), Left>,
}

/// Addresses that are left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    pub free: u128,
    /// Until none is free at the present rate.
    pub seconds: f64,
}

/// How the store is doing.
#[derive(Clone, Debug, Default)]
pub struct StoreReading {
    pub up: bool,
    /// Age of its last answer in seconds; `None` before the first.
    pub last_contact: Option<f64>,
    pub errors: BTreeMap<&'static str, u64>,
}
