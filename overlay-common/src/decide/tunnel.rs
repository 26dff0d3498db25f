//! Whether a frame fits a tunnel, and how it gets into it.

use crate::layout::{TunnelValue, tunnel_flags};
use crate::packet::{
    ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, IPPROTO_TCP,
    IPV6_LEN, Packet, UDP_LEN, VLAN_TAG_LEN, ecn,
};
use crate::{DropReason, FallbackCause};

/// How a frame gets into the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Outer headers by the fast path.
    Fast,
    /// Outer headers by the fast path, in front of a frame that the kernel makes no room in.
    Prepend,
    /// Outer headers by the kernel's vxlan device.
    Fallback(FallbackCause),
}

/// What the kernel keeps beside a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Payload of one segment of a super-packet in bytes, 0 for a plain frame.
    pub gso_size: u32,
    /// There is a VLAN tag that is not in the frame.
    pub tagged: bool,
}

impl Offload {
    /// Bytes that the frame grows by when its tag is put into it.
    #[inline(always)]
    pub const fn tag_len(&self) -> usize {
        if self.tagged { VLAN_TAG_LEN } else { 0 }
    }
}

/// `GSO_BY_FRAGS` of the kernel: the segments are the fragments, each as long as it is (SCTP).
const BY_FRAGMENTS: u32 = 0xffff;

/// Whether the frame fits the tunnel, and which path can encapsulate it.
#[inline(always)]
pub fn path<P: Packet + ?Sized>(
    packet: &P,
    ethernet: Ethernet,
    offload: Offload,
    tunnel: &TunnelValue,
) -> Result<Path, DropReason> {
    if tunnel.header_len == 0 {
        return Err(DropReason::NoRoute);
    }
    // Outer headers from the IP header on.
    let overhead = (tunnel.header_len as usize).wrapping_sub(ETH_LEN);
    let gso_size = offload.gso_size;
    let mut segment = if gso_size == 0 {
        packet.frame_len()
    } else {
        headers_len(packet, ethernet).ok_or(DropReason::Truncated)? + gso_size as usize
    };
    segment += offload.tag_len();
    if gso_size != BY_FRAGMENTS && segment + overhead > tunnel.mtu as usize {
        return Err(DropReason::TooBig);
    }
    let cause = if offload.tagged || !ethernet.is_ip() {
        let vlan = offload.tagged || matches!(ethernet.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ);
        if vlan {
            FallbackCause::Vlan
        } else {
            FallbackCause::InnerNotIp
        }
    } else if packet.frame_len() + overhead > usize::from(u16::MAX) {
        FallbackCause::Oversize
    } else if tunnel.flags & tunnel_flags::UDP_CHECKSUM != 0 {
        FallbackCause::ChecksumWanted
    } else {
        return Ok(Path::Fast);
    };
    instead(cause, offload, tunnel)
}

/// The way of a frame that [`Path::Fast`] is not for. The kernel does not send to an IPv6 group that
/// this host is a member of, but to itself: such a frame gets its headers here, and so do those to
/// an IPv4 group. A super-packet would be segmented without them.
#[inline(always)]
pub fn instead(
    cause: FallbackCause,
    offload: Offload,
    tunnel: &TunnelValue,
) -> Result<Path, DropReason> {
    let computed = tunnel.flags & tunnel_flags::UDP_CHECKSUM != 0;
    if !tunnel.is_group() {
        Ok(Path::Fallback(cause))
    } else if offload.gso_size == 0 && !computed {
        Ok(Path::Prepend)
    } else if tunnel.is_ipv6() {
        Err(DropReason::EncapFailed)
    } else {
        Ok(Path::Fallback(cause))
    }
}

/// The outer traffic class: DSCP of the inner packet or of the template, ECN of the inner packet
/// (RFC 6040, section 4.1). A frame that is not IP has none.
#[inline(always)]
pub fn traffic_class<P: Packet + ?Sized>(
    packet: &P,
    ethernet: Ethernet,
    tunnel: &TunnelValue,
) -> u8 {
    let fixed = tunnel.tos();
    let Some(inner) = inner_traffic_class(packet, ETH_LEN, ethernet) else {
        return fixed;
    };
    if tunnel.flags & tunnel_flags::COPY_DSCP != 0 {
        return inner;
    }
    ecn::encapsulate(fixed, inner)
}

/// The traffic class of the IP packet at `offset`; `None` for another ethertype, and for a frame
/// that ends before it.
#[inline(always)]
pub(super) fn inner_traffic_class<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    ethernet: Ethernet,
) -> Option<u8> {
    let [first, second] = packet.header::<[u8; 2]>(offset)?;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => Some(second),
        ETHERTYPE_IPV6 => Some(first << 4 | second >> 4),
        _ => None,
    }
}

/// Length of the headers that every segment of a super-packet repeats.
#[inline(always)]
fn headers_len<P: Packet + ?Sized>(packet: &P, ethernet: Ethernet) -> Option<usize> {
    /// Byte of a TCP header whose upper half is its length in words.
    const TCP_DATA_OFFSET: usize = 12;

    let (transport, protocol) = match ethernet.ethertype {
        ETHERTYPE_IPV4 => {
            let words = packet.header::<u8>(ETH_LEN)? & 0x0f;
            (
                ETH_LEN + 4 * usize::from(words),
                packet.header::<u8>(ETH_LEN + 9)?,
            )
        }
        ETHERTYPE_IPV6 => (ETH_LEN + IPV6_LEN, packet.header::<u8>(ETH_LEN + 6)?),
        _ => return Some(ETH_LEN),
    };
    if protocol == IPPROTO_TCP {
        let [offset, _flags] = packet.header::<[u8; 2]>(transport + TCP_DATA_OFFSET)?;
        let words = offset >> 4;
        return Some(transport + 4 * usize::from(words));
    }
    Some(transport + UDP_LEN)
}
