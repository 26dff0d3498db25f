//! What happens to a frame, as pure functions of its bytes and the tables. The programs turn the
//! outcome into an action; tests on the host call the same functions.

pub mod endpoint;
pub mod flood;
pub mod guard;
pub mod tunnel;
pub mod underlay;

use crate::DropReason;
use crate::layout::{
    AllowedKey, FdbKey, FdbValue, NeighborKey, NeighborValue, PeerIndex, PeerValue, VniValue,
};
use crate::net::IpKey;

/// Look-ups in the maps. Each call is one map look-up.
pub trait Tables {
    fn peer(&self, source: &IpKey) -> Option<PeerValue>;
    fn fdb(&self, key: &FdbKey) -> Option<FdbValue>;
    fn neighbor(&self, key: &NeighborKey) -> Option<NeighborValue>;
    fn vni(&self, vni: u32) -> Option<VniValue>;
    /// Whether a prefix of ALLOWED covers the address.
    fn allowed(&self, key: &AllowedKey) -> bool;
}

/// A drop and whom it is counted under; VNI and peer are 0 when they are not known to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: DropReason,
    pub vni: u32,
    pub peer: PeerIndex,
}

impl Refusal {
    #[inline(always)]
    pub const fn new(reason: DropReason, vni: u32, peer: PeerIndex) -> Self {
        Self { reason, vni, peer }
    }

    /// A drop of a frame that belongs to no network and no peer.
    #[inline(always)]
    pub const fn unattributed(reason: DropReason) -> Self {
        Self::new(reason, 0, 0)
    }
}
