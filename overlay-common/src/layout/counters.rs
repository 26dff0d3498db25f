//! What was counted.

use super::{PeerIndex, shared};
use crate::{Direction, DropReason, FallbackCause};

/// Key of `STATS_INDEX`, the agent's directory of STATS. 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatsKey {
    pub vni: u32,
    /// 0 for frames between two endpoints of this host.
    pub peer: PeerIndex,
}
shared!(StatsKey, 8);

/// Value of STATS, per CPU. Packets are counted as they appear on the wire (each segment of a
/// GSO super-packet is one); bytes are inner bytes from the Ethernet header on, as the
/// programs saw them (a super-packet's headers once). 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathStats {
    /// Sent to the peer, or, for peer 0, delivered on this host.
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// Received from the peer.
    pub rx_packets: u64,
    pub rx_bytes: u64,
}
shared!(PathStats, 32);

/// Key of DROPS (value: packets, per CPU). The VNI is 0 when it is not one of this host's and
/// the peer 0 when the sender is none, so that junk cannot fill the map. 12 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    pub vni: u32,
    pub peer: PeerIndex,
    /// A [`DropReason`] as its number.
    pub reason: u8,
    /// A [`Direction`] as its number.
    pub direction: u8,
    pub pad: [u8; 2],
}
shared!(DropKey, 12);

impl DropKey {
    #[inline(always)]
    pub const fn new(vni: u32, peer: PeerIndex, direction: Direction, reason: DropReason) -> Self {
        Self {
            vni,
            peer,
            reason: reason as u8,
            direction: direction as u8,
            pad: [0; 2],
        }
    }
}

/// Entries of FALLBACKS (packets, per CPU): index `direction << 4 | cause`.
pub const FALLBACK_ENTRIES: u32 = 64;

/// Index in FALLBACKS of frames that took the fallback path.
#[inline(always)]
pub const fn fallback_index(direction: Direction, cause: FallbackCause) -> u32 {
    (direction as u32) << 4 | cause as u32
}
