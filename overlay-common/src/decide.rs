//! What happens to a frame, as pure functions of its bytes and the tables. The programs turn the
//! outcome into an action; tests on the host call the same functions.

pub mod endpoint;
pub mod flood;
pub mod guard;
pub mod service;
pub mod tunnel;
pub mod underlay;

use crate::DropReason;
use crate::layout::{
    AllowedKey, FdbKey, FdbValue, NeighborKey, NeighborValue, PeerIndex, PeerValue, VniValue,
};
use crate::net::{IpKey, MacAddr};

/// Look-ups in the maps. Each call is one map look-up.
pub trait Tables {
    fn peer(&self, source: &IpKey) -> Option<PeerValue>;
    fn fdb(&self, key: &FdbKey) -> Option<FdbValue>;
    fn neighbor(&self, key: &NeighborKey) -> Option<NeighborValue>;
    fn vni(&self, vni: u32) -> Option<VniValue>;
    /// Whether the tunnel to a peer ends at the address.
    fn ends_at(&self, peer: PeerIndex, address: &IpKey) -> bool;
    /// Whether a prefix of ALLOWED covers the address.
    fn allowed(&self, key: &AllowedKey) -> bool;
}

/// Where an endpoint of a network is. The VNI is checked in the value too: an element of the map
/// may be given to another key while it is read.
#[inline(always)]
pub fn endpoint_of<T: Tables>(tables: &T, vni: u32, mac: MacAddr) -> Option<FdbValue> {
    let value = tables.fdb(&FdbKey::new(vni, mac))?;
    (value.vni == vni).then_some(value)
}

/// A drop and whom it is counted under; VNI and peer are 0 when they are not known to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: DropReason,
    pub vni: u32,
    pub peer: PeerIndex,
    /// Instead of padding, which the compiler copies without having written it: the verifier
    /// refuses that.
    pad: [u8; 3],
}

impl Refusal {
    #[inline(always)]
    pub const fn new(reason: DropReason, vni: u32, peer: PeerIndex) -> Self {
        Self {
            reason,
            vni,
            peer,
            pad: [0; 3],
        }
    }

    /// A drop of a frame that belongs to no network and no peer.
    #[inline(always)]
    pub const fn unattributed(reason: DropReason) -> Self {
        Self::new(reason, 0, 0)
    }
}
