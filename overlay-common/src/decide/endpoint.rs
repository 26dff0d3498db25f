//! Frames that an endpoint of this host sends.

use super::{Refusal, Tables};
use crate::layout::{EndpointValue, FdbKey, NeighborKey, PeerIndex, TunnelValue};
use crate::net::{IpKey, MacAddr};
use crate::packet::arp::{Arp, Operation};
use crate::packet::encap::IP_OVERHEAD_V4;
use crate::packet::{
    ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MIN, ETHERTYPE_QINQ,
    ETHERTYPE_VLAN, Ethernet, IPPROTO_TCP, IPV6_LEN, Packet, UDP_LEN,
};
use crate::{DropReason, FallbackCause};

/// Where an endpoint's frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To another endpoint of this host.
    Local { ifindex: u32, stats: u32 },
    /// Through the tunnel to a peer.
    Remote { peer: PeerIndex, stats: u32 },
    /// Back to the sender: its question answered.
    Answer { arp: Arp, mac: MacAddr },
}

/// Decides by the inner headers. `tagged` says that the driver took a VLAN tag off.
#[inline(always)]
pub fn forward<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    endpoint: &EndpointValue,
    tagged: bool,
    tables: &T,
) -> Result<(Ethernet, Forward), Refusal> {
    let vni = endpoint.vni;
    let refuse = |reason| Err(Refusal::new(reason, vni, 0));

    let Some(ethernet) = Ethernet::read(packet, 0) else {
        return refuse(DropReason::Truncated);
    };
    if ethernet.source != endpoint.mac {
        return refuse(DropReason::SourceMac);
    }
    if tagged || matches!(ethernet.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ) {
        return refuse(DropReason::Vlan);
    }
    if ethernet.ethertype < ETHERTYPE_MIN {
        return refuse(DropReason::Llc);
    }
    if ethernet.ethertype == ETHERTYPE_ARP {
        let Some(arp) = Arp::read(packet, ETH_LEN) else {
            return refuse(DropReason::BadArp);
        };
        if arp.sender_mac != endpoint.mac {
            return refuse(DropReason::BadArp);
        }
        if arp.operation == Operation::Request {
            return match answer(&arp, endpoint, tables) {
                Some(mac) => Ok((ethernet, Forward::Answer { arp, mac })),
                None => refuse(DropReason::UnknownNeighbor),
            };
        }
    }
    if ethernet.destination.is_multicast() {
        return refuse(DropReason::FloodDisabled);
    }
    let Some(entry) = tables.fdb(&FdbKey::new(vni, ethernet.destination)) else {
        return refuse(DropReason::UnknownDestination);
    };
    let forward = if entry.ifindex == 0 {
        Forward::Remote {
            peer: entry.peer,
            stats: entry.stats,
        }
    } else {
        Forward::Local {
            ifindex: entry.ifindex,
            stats: entry.stats,
        }
    };
    Ok((ethernet, forward))
}

/// Who has the target address; never the asker itself, whose probe for duplicates of its own
/// address (RFC 5227) has to stay without answer.
#[inline(always)]
fn answer<T: Tables>(arp: &Arp, endpoint: &EndpointValue, tables: &T) -> Option<MacAddr> {
    let neighbor = tables.neighbor(&NeighborKey {
        vni: endpoint.vni,
        ip: IpKey::v4(arp.target_ip),
    })?;
    (neighbor.mac != endpoint.mac).then_some(neighbor.mac)
}

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
