//! What a frame on the underlay is, over either family.

use network_types::udp::UdpHdr;
use network_types::vxlan::VxlanHdr;

use super::{ipv4, ipv6};
use crate::decide::Tables;
use crate::layout::Vtep;
use crate::net::IpKey;
use crate::packet::ip::HEADERS_MAX;
use crate::packet::{
    ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPPROTO_UDP, IPV4_LEN, Packet, UDP_LEN,
    VXLAN_LEN,
};
use crate::{DropReason, FallbackCause};

/// What a frame on the underlay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// Not VXLAN for this host: none of our business.
    Foreign,
    /// VXLAN for this host that the fast path would get wrong.
    Fallback(FallbackCause),
    Vxlan(Vxlan),
}

/// The facts of a VXLAN header and the headers before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    pub source: IpKey,
    /// This host's VTEP address or a multicast group.
    pub destination: IpKey,
    pub vni: u32,
    /// Length of the outer headers in bytes: where the inner frame begins.
    pub outer_len: usize,
    /// Outer DSCP and ECN.
    pub traffic_class: u8,
    /// The UDP checksum is not zero, so that somebody has to have verified it.
    pub has_checksum: bool,
}

impl Vxlan {
    /// Whether the frame is meant for this host. One to a group is if the group is that of its
    /// network.
    #[inline(always)]
    pub fn is_for_us<T: Tables>(&self, tables: &T) -> bool {
        !self.destination.is_multicast()
            || tables
                .vni(self.vni)
                .is_some_and(|network| network.group == self.destination)
    }
}

/// An outer IP header in front of what may be UDP for this host.
#[derive(Clone, Copy)]
pub(super) struct Ip {
    pub(super) source: IpKey,
    pub(super) destination: IpKey,
    pub(super) traffic_class: u8,
    /// Where the UDP header begins.
    pub(super) udp: usize,
    /// Length of the IP packet as the header has it; 0 for an aggregate beyond 65535 bytes.
    pub(super) len: usize,
    /// Why only the kernel can read the packet right, if so.
    pub(super) cause: Option<FallbackCause>,
    /// The header checksum is right, or there is none.
    pub(super) intact: bool,
}

/// How many bytes of a frame [`classify`], [`super::admit`] and [`super::decapsulable`] look at, at most.
#[inline(always)]
pub fn reach<P: Packet + ?Sized>(packet: &P) -> usize {
    let Some([high, low]) = packet.header::<[u8; 2]>(ETH_LEN - 2) else {
        return HEADERS_MAX;
    };
    // Behind IPv4 options nothing but the UDP header is looked at, and that is not as far.
    let (udp, protocol) = match u16::from_be_bytes([high, low]) {
        ETHERTYPE_IPV4 => (ipv4::UDP, ETH_LEN + 9),
        ETHERTYPE_IPV6 => (ipv6::UDP, ETH_LEN + 6),
        _ => return ETH_LEN,
    };
    let Some([protocol, _]) = packet.header::<[u8; 2]>(protocol) else {
        return HEADERS_MAX;
    };
    if protocol != IPPROTO_UDP {
        // Of IPv6 it might be behind other headers.
        return if udp == ipv4::UDP { udp } else { HEADERS_MAX };
    }
    let inner = udp + UDP_LEN + VXLAN_LEN;
    match packet.header::<[u8; 2]>(inner) {
        // A question, whose target is further behind.
        Some([destination, _]) if destination & 1 != 0 => HEADERS_MAX,
        Some(_) | None => inner + ETH_LEN + IPV4_LEN,
    }
}

/// Tells VXLAN for this VTEP from everything else, and the malformed from the well-formed.
#[inline(always)]
pub fn classify<P: Packet + ?Sized>(packet: &P, vtep: &Vtep) -> Result<Outer, DropReason> {
    let Some(ethernet) = Ethernet::read(packet, 0) else {
        return Ok(Outer::Foreign);
    };
    // One path per family up to the VNI, so that offsets are constants in each.
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => match ipv4::read(packet, &vtep.ip4) {
            Some(ip) => datagram::<P, { ipv4::UDP }>(packet, &ip, vtep),
            None => Ok(Outer::Foreign),
        },
        ETHERTYPE_IPV6 => match ipv6::read(packet, &vtep.ip6) {
            Some(ip) => datagram::<P, { ipv6::UDP }>(packet, &ip, vtep),
            None => Ok(Outer::Foreign),
        },
        _ => Ok(Outer::Foreign),
    }
}

/// A datagram to our address or to a group, whose UDP header is at `UDP` unless there is a cause for the
/// fallback.
#[inline(always)]
fn datagram<P: Packet + ?Sized, const UDP: usize>(
    packet: &P,
    ip: &Ip,
    vtep: &Vtep,
) -> Result<Outer, DropReason> {
    let Some(udp) = packet.header::<UdpHdr>(ip.udp) else {
        return Ok(Outer::Foreign);
    };
    if u32::from(u16::from_be_bytes(udp.dst)) != vtep.port {
        return Ok(Outer::Foreign);
    }
    if let Some(cause) = ip.cause {
        return Ok(Outer::Fallback(cause));
    }
    match vxlan::<P, UDP>(packet, ip, &udp) {
        // Nobody knows whose group it is.
        Err(_) if ip.destination.is_multicast() => Ok(Outer::Foreign),
        outer => outer,
    }
}

/// The rest of [`datagram`]: a whole one, without IP options, to our port.
#[inline(always)]
fn vxlan<P: Packet + ?Sized, const UDP: usize>(
    packet: &P,
    ip: &Ip,
    udp: &UdpHdr,
) -> Result<Outer, DropReason> {
    if !ip.intact {
        return Err(DropReason::OuterChecksum);
    }
    let vxlan = UDP + UDP_LEN;
    let inner = vxlan + VXLAN_LEN;
    let end = ETH_LEN + ip.len;
    let len = packet.frame_len();
    if len < inner + ETH_LEN || (ip.len != 0 && end < inner + ETH_LEN) || len < end {
        return Err(DropReason::Truncated);
    }
    // Trailing bytes, a UDP length of its own mind, or an aggregate beyond 65535 bytes
    // (length 0): the kernel knows what is right.
    if len != end || UDP + usize::from(u16::from_be_bytes(udp.len)) != end {
        return Ok(Outer::Fallback(FallbackCause::OuterLength));
    }
    let Some(header) = packet.header::<VxlanHdr>(vxlan) else {
        return Err(DropReason::Truncated);
    };
    // RFC 7348, section 5: "the I flag MUST be set to 1 for a valid VNI"; all other bits are
    // ignored on receipt.
    let vni = header.vni();
    if !header.vni_present() || vni == 0 {
        return Err(DropReason::NoVni);
    }
    Ok(Outer::Vxlan(Vxlan {
        source: ip.source,
        destination: ip.destination,
        vni,
        outer_len: inner,
        traffic_class: ip.traffic_class,
        has_checksum: udp.check != [0, 0],
    }))
}
