//! What is behind the Ethernet header of an endpoint's frame: from an address of its own, and
//! nothing that a container has no business to send.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::source::refuse_vtep;
use super::{Sender, destination_v6, neighbor};
use crate::DropReason;
use crate::decide::Tables;
use crate::net::{IpKey, MacAddr};
use crate::packet::ip::{IPPROTO_ICMPV6, Upper, ipv4_header_len, is_later_fragment, upper};
use crate::packet::nd::{ADVERTISEMENT, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION, SOLICITATION};
use crate::packet::{
    ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MIN, ETHERTYPE_MPLS,
    ETHERTYPE_MPLS_UPSTREAM, Ethernet, IPPROTO_UDP, IPV6_LEN, Packet,
};

/// What the inner headers say of a frame that may be sent.
#[derive(Clone, Copy)]
pub(super) enum Inspected {
    /// The destination MAC decides.
    Pass,
    /// The target of an ARP request is at the MAC.
    Arp,
    /// A neighbour solicitation or advertisement right behind the IPv6 header.
    Discovery,
    /// The target of a neighbour solicitation is at the MAC.
    Neighbor,
    /// The same, and the target is a gateway.
    Router,
    /// A question to everybody whose target nobody has.
    Unknown,
    /// A question to everybody that has no answer: about the sender itself.
    Unanswered,
}

#[inline(always)]
pub(super) fn inspect<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    sender: &Sender<'_>,
    tables: &T,
    mac: &mut MacAddr,
) -> Result<Inspected, DropReason> {
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, sender, tables).map(|()| Inspected::Pass),
        ETHERTYPE_IPV6 => ipv6(packet, ethernet, sender, tables),
        ETHERTYPE_ARP => neighbor::arp(packet, ethernet, sender, tables, mac),
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => Err(DropReason::Mpls),
        0..ETHERTYPE_MIN => Err(DropReason::Llc),
        _ => Ok(Inspected::Pass),
    }
}

#[inline(always)]
pub(super) fn ipv4<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<(), DropReason> {
    let ip = packet
        .header::<Ipv4Hdr>(ETH_LEN)
        .ok_or(DropReason::Truncated)?;
    let header_len = ipv4_header_len(&ip).ok_or(DropReason::BadInner)?;
    if !sender.owns_v4(ip.src_addr, tables) {
        return Err(DropReason::SourceIp);
    }
    if ip.proto == IPPROTO_UDP && !is_later_fragment(&ip) {
        let destination = || Some(IpKey::v4(packet.header::<[u8; 4]>(ETH_LEN + 16)?));
        refuse_vtep(packet, ETH_LEN + header_len, destination, sender, tables)?;
    }
    Ok(())
}

#[inline(always)]
fn ipv6<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<Inspected, DropReason> {
    let ip = packet
        .header::<Ipv6Hdr>(ETH_LEN)
        .ok_or(DropReason::Truncated)?;
    if ip.vcf[0] >> 4 != 6 {
        return Err(DropReason::BadInner);
    }
    let own = sender.owns_v6(&ip.src_addr, tables) || sender.is_link_local(&ip.src_addr);
    // In nobody's name there is the search for duplicates, and reports of groups.
    if !own && (ip.src_addr != [0; 16] || !ethernet.destination.is_multicast()) {
        return Err(DropReason::SourceIp);
    }
    let (protocol, offset) = match upper(packet, ip.next_hdr) {
        Upper::Header { protocol, offset } => (protocol, offset),
        Upper::LaterFragment if own => return Ok(Inspected::Pass),
        Upper::LaterFragment => return Err(DropReason::SourceIp),
        // A router advertisement could be behind it (RFC 7113, section 3).
        Upper::Hidden => return Err(DropReason::RouterAdvertisement),
    };
    if protocol == IPPROTO_ICMPV6 {
        // Two bytes, for the verifier's sake.
        let [kind, _] = packet
            .header::<[u8; 2]>(offset)
            .ok_or(DropReason::Truncated)?;
        if kind == ROUTER_ADVERTISEMENT {
            return Err(DropReason::RouterAdvertisement);
        }
        if !own && !is_housekeeping(kind) {
            return Err(DropReason::SourceIp);
        }
        if matches!(kind, SOLICITATION | ADVERTISEMENT) {
            // Extension headers in front: nobody sends that, and it is not worth a second way.
            return if offset == ETH_LEN + IPV6_LEN {
                Ok(Inspected::Discovery)
            } else {
                Err(DropReason::BadNeighbor)
            };
        }
        return Ok(Inspected::Pass);
    }
    if !own {
        return Err(DropReason::SourceIp);
    }
    if protocol == IPPROTO_UDP {
        refuse_vtep(packet, offset, || destination_v6(packet), sender, tables)?;
    }
    Ok(Inspected::Pass)
}

/// What an interface without an address sends: multicast listener discovery (RFC 2710, section 3;
/// RFC 3810, section 5), the search for routers and neighbours (RFC 4861, sections 4.1, 4.3).
#[inline(always)]
const fn is_housekeeping(kind: u8) -> bool {
    const LISTENER_REPORT: u8 = 131;
    const LISTENER_DONE: u8 = 132;
    const LISTENER_REPORT_V2: u8 = 143;

    matches!(
        kind,
        LISTENER_REPORT | LISTENER_DONE | LISTENER_REPORT_V2 | ROUTER_SOLICITATION | SOLICITATION
    )
}
