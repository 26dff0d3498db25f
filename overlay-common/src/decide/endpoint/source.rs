//! Whose addresses an endpoint may speak for, and what none may send.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::Sender;
use crate::DropReason;
use crate::decide::Tables;
use crate::layout::{AllowedKey, endpoint_flags};
use crate::net::IpKey;
use crate::packet::ip::{IPPROTO_ICMPV6, ipv4_header_len, link_local};
use crate::packet::{
    ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MIN, ETHERTYPE_MPLS,
    ETHERTYPE_MPLS_UPSTREAM, Ethernet, IPV6_LEN, Packet, udp,
};

/// RFC 4861, section 4.2.
const ROUTER_ADVERTISEMENT: u8 = 134;

/// Refuses what an endpoint may not send, by the headers up to UDP and `ICMPv6`.
#[inline(always)]
pub(super) fn check<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<(), DropReason> {
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => {
            let ip = packet
                .header::<Ipv4Hdr>(ETH_LEN)
                .ok_or(DropReason::Truncated)?;
            ipv4_header_len(&ip).ok_or(DropReason::BadInner)?;
            if !sender.owns_v4(ip.src_addr, tables) {
                return Err(DropReason::SourceIp);
            }
        }
        ETHERTYPE_IPV6 => {
            let ip = packet
                .header::<Ipv6Hdr>(ETH_LEN)
                .ok_or(DropReason::Truncated)?;
            if ip.vcf[0] >> 4 != 6 {
                return Err(DropReason::BadInner);
            }
            if !sender.speaks_for_v6(&ip.src_addr, ethernet, tables) {
                return Err(DropReason::SourceIp);
            }
            if ip.next_hdr == IPPROTO_ICMPV6 {
                let kind = packet
                    .header::<u8>(ETH_LEN + IPV6_LEN)
                    .ok_or(DropReason::Truncated)?;
                if kind == ROUTER_ADVERTISEMENT {
                    return Err(DropReason::RouterAdvertisement);
                }
            }
        }
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => return Err(DropReason::Mpls),
        ethertype if ethertype < ETHERTYPE_MIN => return Err(DropReason::Llc),
        _ => return Ok(()),
    }
    let Some((destination, port)) = udp::destination(packet, ethernet.ethertype, ETH_LEN) else {
        return Ok(());
    };
    let vtep = sender.vtep;
    if u32::from(port) == vtep.port
        && (destination == vtep.ip4
            || destination == vtep.ip6
            || tables.peer(&destination).is_some())
    {
        return Err(DropReason::VtepPort);
    }
    Ok(())
}

impl Sender<'_> {
    /// Whether the endpoint may send from an IPv4 address.
    #[inline(always)]
    pub(super) fn owns_v4<T: Tables>(&self, ip: [u8; 4], tables: &T) -> bool {
        (ip == self.endpoint.ip4 && ip != [0; 4]) || self.is_allowed(IpKey::v4(ip), tables)
    }

    /// Whether the endpoint may send from an IPv6 address: its own, the link-local one of its MAC,
    /// and, to a group, none: the search for duplicates and the reports of groups (RFC 4861,
    /// section 4.3; RFC 3810, section 5.2.13).
    #[inline(always)]
    fn speaks_for_v6<T: Tables>(&self, ip: &[u8; 16], ethernet: Ethernet, tables: &T) -> bool {
        const UNSPECIFIED: [u8; 16] = [0; 16];

        if *ip == UNSPECIFIED {
            return ethernet.destination.is_multicast();
        }
        *ip == self.endpoint.ip6
            || *ip == link_local(self.endpoint.mac)
            || self.is_allowed(IpKey::v6(*ip), tables)
    }

    /// ALLOWED is asked only where the endpoint has an entry in it.
    #[inline(always)]
    fn is_allowed<T: Tables>(&self, ip: IpKey, tables: &T) -> bool {
        self.endpoint.flags & endpoint_flags::ALLOWED != 0
            && tables.allowed(&AllowedKey {
                ifindex: self.ifindex,
                ip,
            })
    }
}
