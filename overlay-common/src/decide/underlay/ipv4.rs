//! The outer IPv4 header.

use network_types::ip::Ipv4Hdr;

use super::classify::Ip;
use crate::FallbackCause;
use crate::net::IpKey;
use crate::packet::checksum::{fold, ipv4_sum};
use crate::packet::{ETH_LEN, IPPROTO_UDP, IPV4_LEN, Packet};

/// Where UDP is on the fast path: behind a header without options.
pub(super) const UDP: usize = ETH_LEN + IPV4_LEN;

const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// A header in front of UDP to `own` or to a group; `None` for everything else, and for a later fragment, whose
/// port cannot be seen: reassembly brings it to the fallback device if it is VXLAN.
#[inline(always)]
pub(super) fn read<P: Packet + ?Sized>(packet: &P, own: &IpKey) -> Option<Ip> {
    let ip = packet.header::<Ipv4Hdr>(ETH_LEN)?;
    // The shortest header length of a version 4 header is 5 words.
    let words = usize::from(ip.vihl.wrapping_sub(0x40));
    let destination = IpKey::v4(ip.dst_addr);
    if !(5..16).contains(&words)
        || ip.proto != IPPROTO_UDP
        || (destination != *own && !destination.is_multicast())
    {
        return None;
    }
    let fragment = u16::from_be_bytes(ip.frags);
    if fragment & FRAGMENT_OFFSET != 0 {
        return None;
    }
    let cause = if fragment & MORE_FRAGMENTS != 0 {
        Some(FallbackCause::OuterFragment)
    } else if words != 5 {
        Some(FallbackCause::OuterOptions)
    } else {
        None
    };
    Some(Ip {
        source: IpKey::v4(ip.src_addr),
        destination,
        traffic_class: ip.tos,
        udp: ETH_LEN + 4 * words,
        len: usize::from(u16::from_be_bytes(ip.tot_len)),
        cause,
        intact: fold(ipv4_sum(&bytes(&ip))) == 0xffff,
    })
}

#[inline(always)]
fn bytes(ip: &Ipv4Hdr) -> [u8; IPV4_LEN] {
    const { assert!(size_of::<Ipv4Hdr>() == IPV4_LEN) };
    // SAFETY: `Ipv4Hdr` is 20 bytes of `repr(C)` bytes and byte arrays without padding.
    unsafe { core::mem::transmute::<Ipv4Hdr, [u8; IPV4_LEN]>(*ip) }
}
