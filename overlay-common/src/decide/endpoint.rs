//! Frames that an endpoint of this host sends.
//!
//! [`forward`] decides the many: unicast IP from an address of the endpoint to an endpoint whose MAC is
//! known. All else is an [`exception`], for which a second program has a stack of its own.

mod exception;
mod gateway;
mod inspect;
mod neighbor;
mod source;

pub use exception::{Exception, discovery, exception};

use network_types::ip::Ipv6Hdr;

use super::{Refusal, Tables, endpoint_of};
use crate::DropReason;
use crate::layout::{EndpointValue, FdbValue, PeerIndex, Vtep, fdb_flags};
use crate::net::IpKey;
use crate::packet::ip::HEADERS_MAX;
use crate::packet::{
    ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPPROTO_TCP, IPPROTO_UDP, IPV4_LEN,
    IPV6_LEN, Packet, UDP_LEN,
};

/// Where an endpoint's frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To another endpoint of this host.
    Local { ifindex: u32, stats: u32 },
    /// Through the tunnel to a peer.
    Remote { peer: PeerIndex, stats: u32 },
    /// To be decided by [`exception`].
    Exception,
}

impl Forward {
    /// To the endpoint behind an entry of FDB.
    #[inline(always)]
    const fn to(entry: &FdbValue) -> Self {
        if entry.ifindex == 0 {
            Self::Remote {
                peer: entry.peer,
                stats: entry.stats,
            }
        } else {
            Self::Local {
                ifindex: entry.ifindex,
                stats: entry.stats,
            }
        }
    }
}

/// Who sends: what the programs know of a frame besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Host side of the endpoint's veth.
    pub ifindex: u32,
    pub endpoint: &'a EndpointValue,
    /// Whether the driver took a VLAN tag off.
    pub tagged: bool,
    pub vtep: &'a Vtep,
}

/// A TCP header up to its data offset and flags.
const TCP_REACH: usize = 14;

/// How many bytes of a frame [`forward`] and [`super::tunnel::path`] look at, at most.
#[inline(always)]
pub fn reach<P: Packet + ?Sized>(packet: &P) -> usize {
    let Some([high, low, first, ..]) = packet.header::<[u8; 4]>(ETH_LEN - 2) else {
        return HEADERS_MAX;
    };
    let (header_len, protocol) = match u16::from_be_bytes([high, low]) {
        ETHERTYPE_IPV4 => (IPV4_LEN.max(4 * usize::from(first & 0x0f)), 9),
        ETHERTYPE_IPV6 => (IPV6_LEN, 6),
        _ => return HEADERS_MAX,
    };
    let Some([protocol, _]) = packet.header::<[u8; 2]>(ETH_LEN + protocol) else {
        return HEADERS_MAX;
    };
    let transport = if protocol == IPPROTO_UDP {
        UDP_LEN
    } else {
        TCP_REACH
    };
    ETH_LEN + header_len + transport
}

/// Decides by the inner headers.
#[inline(always)]
pub fn forward<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<(Ethernet, Forward), Refusal> {
    let vni = sender.endpoint.vni;
    let refusal = |reason| Refusal::new(reason, vni, 0);
    let ethernet = own_frame(packet, sender).map_err(refusal)?;
    let is_plain = !sender.tagged
        && !ethernet.destination.is_multicast()
        && match ethernet.ethertype {
            ETHERTYPE_IPV4 => inspect::ipv4(packet, sender, tables).map(|()| true),
            ETHERTYPE_IPV6 => is_plain_ipv6(packet, sender, tables),
            _ => Ok(false),
        }
        .map_err(refusal)?;
    if !is_plain {
        return Ok((ethernet, Forward::Exception));
    }
    Ok(match endpoint_of(tables, vni, ethernet.destination) {
        Some(entry) if entry.flags & fdb_flags::GATEWAY == 0 => (ethernet, Forward::to(&entry)),
        Some(_) | None => (ethernet, Forward::Exception),
    })
}

/// The frame's Ethernet header, if it names the endpoint's own MAC as its source.
#[inline(always)]
fn own_frame<P: Packet + ?Sized>(packet: &P, sender: &Sender<'_>) -> Result<Ethernet, DropReason> {
    let ethernet = Ethernet::read(packet, 0).ok_or(DropReason::Truncated)?;
    if ethernet.source != sender.endpoint.mac {
        return Err(DropReason::SourceMac);
    }
    Ok(ethernet)
}

#[inline(always)]
fn destination_v6<P: Packet + ?Sized>(packet: &P) -> Option<IpKey> {
    Some(IpKey::v6(packet.header::<[u8; 16]>(ETH_LEN + 24)?))
}

/// Whether it is TCP or UDP right behind the IPv6 header, from an address of the endpoint. All else
/// wants a closer look.
#[inline(always)]
fn is_plain_ipv6<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<bool, DropReason> {
    let ip = packet
        .header::<Ipv6Hdr>(ETH_LEN)
        .ok_or(DropReason::Truncated)?;
    if ip.vcf[0] >> 4 != 6
        || !matches!(ip.next_hdr, IPPROTO_TCP | IPPROTO_UDP)
        || !sender.owns_v6(&ip.src_addr, tables)
    {
        return Ok(false);
    }
    if ip.next_hdr == IPPROTO_UDP {
        source::refuse_vtep(
            packet,
            ETH_LEN + IPV6_LEN,
            || destination_v6(packet),
            sender,
            tables,
        )?;
    }
    Ok(true)
}
