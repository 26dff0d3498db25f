//! The outer IPv6 header and the extension headers that may follow it.

use super::classify::Ip;
use crate::FallbackCause;
use crate::net::IpKey;
use crate::packet::ip::HEADERS_MAX;
use crate::packet::{ETH_LEN, IPPROTO_UDP, IPV6_LEN, Packet, UDP_LEN};

/// Where UDP is on the fast path: behind a header without extensions.
pub(super) const UDP: usize = ETH_LEN + IPV6_LEN;

// Extension headers (RFC 8200, section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Fragment offset of a fragment header's second half-word, the upper 13 bits.
const FRAGMENT_OFFSET: u16 = 0xfff8;

/// Most extension headers that are looked behind; what has more goes to the stack all the same,
/// only not counted.
const MOST_EXTENSIONS: usize = 4;
/// Where UDP begins at the farthest: the programs have no more of a frame at hand.
const FARTHEST: usize = HEADERS_MAX - UDP_LEN;

/// A header in front of UDP to `own` or to a group; `None` for everything else, for a later fragment, whose
/// port cannot be seen, and for a source that is an IPv4 address in disguise, which Linux drops: it
/// would pass for the peer that has it.
#[inline(always)]
pub(super) fn read<P: Packet + ?Sized>(packet: &P, own: &IpKey) -> Option<Ip> {
    let [first, second] = packet.header::<[u8; 2]>(ETH_LEN)?;
    let [next_header, _hop_limit] = packet.header::<[u8; 2]>(ETH_LEN + 6)?;
    let destination = IpKey::v6(packet.header::<[u8; 16]>(ETH_LEN + 24)?);
    if first >> 4 != 6
        || destination == IpKey::default()
        || (destination != *own && !destination.is_multicast())
    {
        return None;
    }
    let source = IpKey::v6(packet.header::<[u8; 16]>(ETH_LEN + 8)?);
    if source.is_v4() {
        return None;
    }
    let (udp, cause) = if next_header == IPPROTO_UDP {
        (UDP, None)
    } else {
        let (udp, cause) = behind_extensions(packet, next_header)?;
        (udp, Some(cause))
    };
    let payload = u16::from_be_bytes(packet.header::<[u8; 2]>(ETH_LEN + 4)?);
    Some(Ip {
        source,
        destination,
        traffic_class: first << 4 | second >> 4,
        udp,
        len: if payload == 0 {
            0
        } else {
            IPV6_LEN + usize::from(payload)
        },
        cause,
        intact: true,
    })
}

/// Finds UDP behind extension headers; `None` when there is none, or not in this fragment.
#[inline(always)]
fn behind_extensions<P: Packet + ?Sized>(
    packet: &P,
    mut next_header: u8,
) -> Option<(usize, FallbackCause)> {
    let mut offset = UDP;
    let mut cause = FallbackCause::OuterOptions;
    for _ in 0..MOST_EXTENSIONS {
        let [following, length] = packet.header::<[u8; 2]>(offset)?;
        let size = match next_header {
            // The length is in units of 8 bytes, the first not counted.
            HOP_BY_HOP | ROUTING | DESTINATION => 8 * (usize::from(length) + 1),
            FRAGMENT => {
                let fragment = u16::from_be_bytes(packet.header::<[u8; 2]>(offset + 2)?);
                if fragment & FRAGMENT_OFFSET != 0 {
                    return None;
                }
                cause = FallbackCause::OuterFragment;
                8
            }
            _ => return None,
        };
        offset += size;
        if offset > FARTHEST {
            return None;
        }
        next_header = following;
        if next_header == IPPROTO_UDP {
            return Some((offset, cause));
        }
    }
    None
}
