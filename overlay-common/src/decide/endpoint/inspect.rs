//! What is behind the Ethernet header of an endpoint's frame: from an address of its own, and
//! nothing that a container has no business to send.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;

use super::{Inspected, Sender, neighbor};
use crate::DropReason;
use crate::decide::Tables;
use crate::net::IpKey;
use crate::packet::ip::{IPPROTO_ICMPV6, Upper, ipv4_header_len, is_later_fragment, upper};
use crate::packet::nd::{ADVERTISEMENT, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION, SOLICITATION};
use crate::packet::{
    ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MPLS,
    ETHERTYPE_MPLS_UPSTREAM, Ethernet, IPPROTO_TCP, IPPROTO_UDP, IPV6_LEN, Packet,
};

#[inline(always)]
pub(super) fn inspect<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<Inspected, DropReason> {
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, sender, tables),
        ETHERTYPE_IPV6 => ipv6(packet, ethernet, sender, tables),
        ETHERTYPE_ARP => neighbor::arp(packet, ethernet, sender, tables),
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => Err(DropReason::Mpls),
        _ => Ok(Inspected::Pass),
    }
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<Inspected, DropReason> {
    let ip = packet
        .header::<Ipv4Hdr>(ETH_LEN)
        .ok_or(DropReason::Truncated)?;
    let header_len = ipv4_header_len(&ip).ok_or(DropReason::BadInner)?;
    if !sender.owns_v4(ip.src_addr, tables) {
        return Err(DropReason::SourceIp);
    }
    if ip.proto == IPPROTO_UDP && !is_later_fragment(&ip) {
        let destination = IpKey::v4(ip.dst_addr);
        refuse_vtep(packet, ETH_LEN + header_len, &destination, sender, tables)?;
    }
    Ok(Inspected::Pass)
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
    let own = ip.src_addr == sender.endpoint.ip6 && ip.src_addr != [0; 16];
    if own && ip.next_hdr == IPPROTO_TCP {
        return Ok(Inspected::Pass);
    }
    if own && ip.next_hdr == IPPROTO_UDP {
        let destination = IpKey::v6(ip.dst_addr);
        refuse_vtep(packet, ETH_LEN + IPV6_LEN, &destination, sender, tables)?;
        return Ok(Inspected::Pass);
    }
    ipv6_rest(packet, ethernet, sender, tables)
}

/// What is not plain TCP or UDP from the endpoint's address. Out of line: a program's stack is
/// small.
#[inline(never)]
fn ipv6_rest<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<Inspected, DropReason> {
    let ip = packet
        .header::<Ipv6Hdr>(ETH_LEN)
        .ok_or(DropReason::Truncated)?;
    let housekeeping_only = if sender.owns_v6(&ip.src_addr, tables) {
        false
    } else if sender.is_link_local(&ip.src_addr) {
        sender.endpoint.ip6 == [0; 16]
    } else if ip.src_addr == [0; 16] {
        true
    } else {
        return Err(DropReason::SourceIp);
    };
    let (protocol, offset) = match upper(packet, ip.next_hdr) {
        Upper::Header { protocol, offset } => (protocol, offset),
        Upper::LaterFragment if !housekeeping_only => return Ok(Inspected::Pass),
        Upper::LaterFragment => return Err(DropReason::SourceIp),
        // A router advertisement could be behind it (RFC 7113, section 3).
        Upper::Hidden => return Err(DropReason::RouterAdvertisement),
    };
    if protocol == IPPROTO_ICMPV6 {
        let kind = packet.header::<u8>(offset).ok_or(DropReason::Truncated)?;
        if kind == ROUTER_ADVERTISEMENT {
            return Err(DropReason::RouterAdvertisement);
        }
        if housekeeping_only && !is_housekeeping(kind) {
            return Err(DropReason::SourceIp);
        }
        if matches!(kind, SOLICITATION | ADVERTISEMENT) {
            return neighbor::discovery(packet, ethernet, offset, sender, tables);
        }
        return Ok(Inspected::Pass);
    }
    if housekeeping_only {
        return Err(DropReason::SourceIp);
    }
    if protocol == IPPROTO_UDP {
        let destination = IpKey::v6(ip.dst_addr);
        refuse_vtep(packet, offset, &destination, sender, tables)?;
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
        LISTENER_REPORT
            | LISTENER_DONE
            | LISTENER_REPORT_V2
            | ROUTER_SOLICITATION
            | SOLICITATION
            | ADVERTISEMENT
    )
}

/// Refuses UDP to the VXLAN port of a VTEP: it could not be told from this host's own.
#[inline(always)]
fn refuse_vtep<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    destination: &IpKey,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<(), DropReason> {
    let vtep = sender.vtep;
    let Some(udp) = packet.header::<UdpHdr>(offset) else {
        return Ok(());
    };
    if u32::from(u16::from_be_bytes(udp.dst)) == vtep.port
        && (*destination == vtep.ip4
            || *destination == vtep.ip6
            || tables.peer(destination).is_some())
    {
        return Err(DropReason::VtepPort);
    }
    Ok(())
}

const _: () = assert!(
    ETH_LEN + 60 + size_of::<UdpHdr>() <= crate::packet::ip::HEADERS_MAX
        && ETH_LEN + IPV6_LEN < crate::packet::ip::HEADERS_MAX
);
