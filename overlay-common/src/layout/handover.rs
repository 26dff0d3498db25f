//! What one program tells the next about a frame.

use super::{PeerIndex, shared};
use crate::packet::Header;

/// The XDP metadata in front of a frame that `underlay_filter` has taken out of its tunnel, for
/// `from_underlay`. GRO merges frames of equal metadata only. 12 bytes; the kernel takes multiples of
/// 4, up to 32 in all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// [`super::Vtep::cookie`], which tells this from the metadata of others.
    pub cookie: u32,
    pub vni: u32,
    /// Who sent the frame.
    pub peer: PeerIndex,
}
shared!(Handover, 12);

// SAFETY: three integers without padding.
unsafe impl Header for Handover {}
