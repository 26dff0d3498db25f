//! Whether a frame fits a tunnel, and how it gets into it.

use crate::layout::TunnelValue;
use crate::packet::encap::IP_OVERHEAD_V4;
use crate::packet::{
    ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPPROTO_TCP, IPV6_LEN, Packet, UDP_LEN,
};
use crate::{DropReason, FallbackCause};

/// How a frame gets into the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Outer headers by the fast path.
    Fast,
    /// Outer headers by the kernel's vxlan device.
    Fallback(FallbackCause),
}

/// `GSO_BY_FRAGS` of the kernel: the segments are the fragments, each as long as it is (SCTP).
const BY_FRAGMENTS: u32 = 0xffff;

/// Whether the frame fits the tunnel, and which path can encapsulate it. `gso_size` is the
/// payload of one segment of a super-packet, 0 for a plain frame.
#[inline(always)]
pub fn path<P: Packet + ?Sized>(
    packet: &P,
    ethernet: Ethernet,
    gso_size: u32,
    tunnel: &TunnelValue,
) -> Result<Path, DropReason> {
    if tunnel.header_len == 0 {
        return Err(DropReason::NoRoute);
    }
    let segment = if gso_size == 0 {
        packet.frame_len()
    } else {
        headers_len(packet, ethernet).ok_or(DropReason::Truncated)? + gso_size as usize
    };
    if gso_size != BY_FRAGMENTS && segment + IP_OVERHEAD_V4 > tunnel.mtu as usize {
        return Err(DropReason::TooBig);
    }
    if !ethernet.is_ip() {
        return Ok(Path::Fallback(FallbackCause::InnerNotIp));
    }
    if packet.frame_len() + IP_OVERHEAD_V4 > usize::from(u16::MAX) {
        return Ok(Path::Fallback(FallbackCause::Oversize));
    }
    Ok(Path::Fast)
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
        let words = packet.header::<u8>(transport + TCP_DATA_OFFSET)? >> 4;
        return Some(transport + 4 * usize::from(words));
    }
    Some(transport + UDP_LEN)
}
