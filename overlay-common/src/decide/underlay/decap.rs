//! How the outer headers come off.

use super::admit::Delivery;
use super::classify::Vxlan;
use crate::decide::Refusal;
use crate::layout::fdb_flags;
use crate::packet::checksum::replace;
use crate::packet::ecn::{self, Merge};
use crate::packet::{
    ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, IPPROTO_TCP, IPV4_LEN,
    IPV6_LEN, Packet,
};
use crate::{DropReason, FallbackCause};

/// Family of the inner packet, which `bpf_skb_adjust_room` has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A frame that the fast path can decapsulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strip {
    pub family: Family,
    /// What the outer congestion mark does to the inner packet.
    pub change: Change,
}

/// New bytes of the inner IP header. Offsets count from the inner Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    /// The word with the type of service at 14, the header checksum at 24.
    V4 {
        tos: [u8; 2],
        checksum: [u8; 2],
    },
    /// The word with the traffic class at 14.
    V6 {
        traffic_class: [u8; 2],
    },
}

/// Whether the fast path can decapsulate the frame right, or why it cannot; a refusal where no
/// path may deliver it. The frame is behind `outer_len` bytes. `aggregate` says that it is a GSO super-packet: of those only inner TCP
/// survives, and only for an endpoint that does not send it on.
#[inline(always)]
pub fn decapsulable<P: Packet + ?Sized>(
    packet: &P,
    outer_len: usize,
    vxlan: &Vxlan,
    delivery: &Delivery,
    aggregate: bool,
) -> Result<Result<Strip, FallbackCause>, Refusal> {
    let ip = outer_len + ETH_LEN;
    let (family, len, protocol) = match delivery.inner.ethertype {
        ETHERTYPE_IPV4 => (Family::V4, IPV4_LEN, ip + 9),
        ETHERTYPE_IPV6 => (Family::V6, IPV6_LEN, ip + 6),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => return Ok(Err(FallbackCause::Vlan)),
        _ => return Ok(Err(FallbackCause::InnerNotIp)),
    };
    if packet.frame_len() < ip + len {
        return Ok(Err(FallbackCause::InnerNotIp));
    }
    if aggregate {
        if packet.header::<u8>(protocol) != Some(IPPROTO_TCP) {
            return Ok(Err(FallbackCause::InnerAggregate));
        }
        if delivery.flags & fdb_flags::FORWARDS != 0 {
            return Ok(Err(FallbackCause::Forwarding));
        }
    }
    let change = if vxlan.traffic_class & ecn::ECT_1 == 0 {
        Change::None
    } else {
        change(packet, ip, family, vxlan.traffic_class)
            .map_err(|reason| Refusal::new(reason, vxlan.vni, delivery.peer))?
    };
    Ok(Ok(Strip { family, change }))
}

/// Merges the outer mark into the IP header at `ip` (RFC 6040, section 4.2).
#[inline(always)]
fn change<P: Packet + ?Sized>(
    packet: &P,
    ip: usize,
    family: Family,
    outer: u8,
) -> Result<Change, DropReason> {
    let before = packet.header::<[u8; 2]>(ip).ok_or(DropReason::Truncated)?;
    let [first, second] = before;
    let inner = match family {
        Family::V4 => second,
        Family::V6 => first << 4 | second >> 4,
    };
    let mark = match ecn::decapsulate(outer, inner) {
        Merge::Keep => return Ok(Change::None),
        Merge::Drop => return Err(DropReason::Congestion),
        Merge::Mark(mark) => mark,
    };
    Ok(match family {
        Family::V4 => {
            let checksum = packet
                .header::<[u8; 2]>(ip + 10)
                .ok_or(DropReason::Truncated)?;
            let tos = [first, (second & !ecn::MASK) | mark];
            let checksum = replace(
                u16::from_be_bytes(checksum),
                u16::from_be_bytes(before),
                u16::from_be_bytes(tos),
            );
            Change::V4 {
                tos,
                checksum: checksum.to_be_bytes(),
            }
        }
        // The mark is bits 4 and 5 of the second byte.
        Family::V6 => Change::V6 {
            traffic_class: [first, (second & !(ecn::MASK << 4)) | mark << 4],
        },
    })
}
