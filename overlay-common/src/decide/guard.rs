//! Frames that a process of this host sends out of the underlay device.
//!
//! A VTEP is known by its address, and every process of a host has that: what it sends to the VXLAN
//! port of a peer would be taken for this host's tunnel. Nobody but the data path has business
//! there.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;

use super::{Refusal, Tables};
use crate::DropReason;
use crate::layout::Vtep;
use crate::net::IpKey;
use crate::packet::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPPROTO_UDP, IPV6_LEN, Packet};

const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Offset of an IPv6 fragment, in units of 8 bytes (RFC 8200, section 4.5).
const FRAGMENT_OFFSET_V6: u16 = 0xfff8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Extension headers that are looked behind.
const CHAIN: usize = 4;

/// Refuses VXLAN towards a peer or a group. Fragments but the first have no port and pass: without
/// the first, nobody reassembles them. An IPv6 packet for a peer with more than [`CHAIN`]
/// extension headers is refused, because what follows them is not seen.
#[inline(always)]
pub fn inspect<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    vtep: &Vtep,
    tables: &T,
) -> Result<(), Refusal> {
    let Some(ethernet) = Ethernet::read(packet, 0) else {
        return Ok(());
    };
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => inspect_v4(packet, vtep, tables),
        ETHERTYPE_IPV6 => inspect_v6(packet, vtep, tables),
        _ => Ok(()),
    }
}

#[inline(always)]
fn inspect_v4<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    vtep: &Vtep,
    tables: &T,
) -> Result<(), Refusal> {
    let Some(ip) = packet.header::<Ipv4Hdr>(ETH_LEN) else {
        return Ok(());
    };
    if ip.proto != IPPROTO_UDP || u16::from_be_bytes(ip.frags) & FRAGMENT_OFFSET != 0 {
        return Ok(());
    }
    let words = usize::from(ip.vihl & 0x0f);
    if !is_to_port(packet, ETH_LEN + 4 * words, vtep) {
        return Ok(());
    }
    // 224.0.0.0/4 (RFC 1112, section 4).
    let is_group = ip.dst_addr[0] & 0xf0 == 0xe0;
    refuse_peer(&IpKey::v4(ip.dst_addr), is_group, tables)
}

#[inline(always)]
fn inspect_v6<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    vtep: &Vtep,
    tables: &T,
) -> Result<(), Refusal> {
    let Some(ip) = packet.header::<Ipv6Hdr>(ETH_LEN) else {
        return Ok(());
    };
    let destination = IpKey::v6(ip.dst_addr);
    // ff00::/8 (RFC 4291, section 2.7).
    let is_group = ip.dst_addr[0] == 0xff;
    let mut next = ip.next_hdr;
    let mut offset = ETH_LEN + IPV6_LEN;
    for _ in 0..CHAIN {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT => {}
            _ => break,
        }
        // Next header, length or nothing, and of a fragment the offset.
        let Some([following, length, high, low]) = packet.header::<[u8; 4]>(offset) else {
            return Ok(());
        };
        if next == FRAGMENT {
            if u16::from_be_bytes([high, low]) & FRAGMENT_OFFSET_V6 != 0 {
                return Ok(());
            }
            offset += 8;
        } else {
            offset += 8 * (usize::from(length) + 1);
        }
        next = following;
    }
    match next {
        IPPROTO_UDP if is_to_port(packet, offset, vtep) => {}
        HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT => {}
        _ => return Ok(()),
    }
    refuse_peer(&destination, is_group, tables)
}

#[inline(always)]
fn is_to_port<P: Packet + ?Sized>(packet: &P, offset: usize, vtep: &Vtep) -> bool {
    let port = packet.header::<UdpHdr>(offset).map(|udp| udp.dst);
    port.is_some_and(|port| u32::from(u16::from_be_bytes(port)) == vtep.port)
}

#[inline(always)]
fn refuse_peer<T: Tables>(
    destination: &IpKey,
    is_group: bool,
    tables: &T,
) -> Result<(), Refusal> {
    match tables.peer(destination) {
        Some(peer) => Err(Refusal::new(DropReason::Forged, 0, peer.index)),
        None if is_group => Err(Refusal::unattributed(DropReason::Forged)),
        None => Ok(()),
    }
}
