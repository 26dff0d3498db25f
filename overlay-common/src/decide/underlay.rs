//! Frames that come in from the underlay.

use network_types::ip::Ipv4Hdr;
use network_types::udp::UdpHdr;
use network_types::vxlan::VxlanHdr;

use super::{Refusal, Tables, flood};
use crate::layout::{FdbKey, FloodMode, NeighborKey, Vtep};
use crate::net::IpKey;
use crate::packet::arp::{Arp, Operation};
use crate::packet::checksum::{fold, ipv4_sum};
use crate::packet::{
    ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPPROTO_TCP, IPPROTO_UDP,
    IPV4_LEN, IPV6_LEN, OVERHEAD_V4, Packet, UDP_LEN, VXLAN_LEN,
};
use crate::{DropReason, FallbackCause};

const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// The bit of the ECN field that ECT(1) and CE have in common: the marks that have to be merged
/// into the inner header (RFC 6040, section 4.2). ECT(0) changes nothing there.
const ECN_MERGED: u8 = 0b01;

/// What a frame on the underlay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// Not VXLAN for this host: none of our business.
    Foreign,
    /// VXLAN for this host that the fast path would get wrong.
    Fallback(FallbackCause),
    Vxlan(Vxlan),
}

/// The facts of a VXLAN header and the IP header before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    pub source: IpKey,
    /// This host's VTEP address or a multicast group.
    pub destination: IpKey,
    pub vni: u32,
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

/// Tells VXLAN for this VTEP from everything else, and the malformed from the well-formed.
#[inline(always)]
pub fn classify<P: Packet + ?Sized>(packet: &P, vtep: &Vtep) -> Result<Outer, DropReason> {
    let Some(ethernet) = Ethernet::read(packet, 0) else {
        return Ok(Outer::Foreign);
    };
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return Ok(Outer::Foreign);
    }
    let Some(ip) = packet.header::<Ipv4Hdr>(ETH_LEN) else {
        return Ok(Outer::Foreign);
    };
    // The shortest header length of a version 4 header is 5 words.
    let words = usize::from(ip.vihl.wrapping_sub(0x40));
    let destination = IpKey::v4(ip.dst_addr);
    let to_group = destination.is_multicast();
    if !(5..16).contains(&words)
        || ip.proto != IPPROTO_UDP
        || (destination != vtep.ip4 && !to_group)
    {
        return Ok(Outer::Foreign);
    }
    let fragment = u16::from_be_bytes(ip.frags);
    if fragment & FRAGMENT_OFFSET != 0 {
        // No port to be seen: reassembly brings it to the fallback device if it is VXLAN.
        return Ok(Outer::Foreign);
    }
    let Some(udp) = packet.header::<UdpHdr>(ETH_LEN + 4 * words) else {
        return Ok(Outer::Foreign);
    };
    if u32::from(u16::from_be_bytes(udp.dst)) != vtep.port {
        return Ok(Outer::Foreign);
    }
    if fragment & MORE_FRAGMENTS != 0 {
        return Ok(Outer::Fallback(FallbackCause::OuterFragment));
    }
    if words != 5 {
        return Ok(Outer::Fallback(FallbackCause::OuterOptions));
    }
    match vxlan(packet, &ip, &udp) {
        // Nobody knows whose group it is.
        Err(_) if to_group => Ok(Outer::Foreign),
        outer => outer,
    }
}

/// The rest of [`classify`]: a whole datagram, without IP options, to our port.
#[inline(always)]
fn vxlan<P: Packet + ?Sized>(packet: &P, ip: &Ipv4Hdr, udp: &UdpHdr) -> Result<Outer, DropReason> {
    const SHORTEST: usize = IPV4_LEN + UDP_LEN + VXLAN_LEN + ETH_LEN;

    if fold(ipv4_sum(&ipv4_bytes(ip))) != 0xffff {
        return Err(DropReason::OuterChecksum);
    }
    let total = usize::from(u16::from_be_bytes(ip.tot_len));
    if packet.frame_len() < ETH_LEN + SHORTEST || (total != 0 && total < SHORTEST) {
        return Err(DropReason::Truncated);
    }
    if packet.frame_len() < ETH_LEN + total {
        return Err(DropReason::Truncated);
    }
    // Trailing bytes, a UDP length of its own mind, or an aggregate beyond 65535 bytes
    // (total length 0): the kernel knows what is right.
    let udp_len = usize::from(u16::from_be_bytes(udp.len));
    if packet.frame_len() != ETH_LEN + total || udp_len + IPV4_LEN != total {
        return Ok(Outer::Fallback(FallbackCause::OuterLength));
    }
    if udp.check != [0, 0] {
        return Ok(Outer::Fallback(FallbackCause::OuterChecksum));
    }
    if ip.tos & ECN_MERGED != 0 {
        return Ok(Outer::Fallback(FallbackCause::OuterCongestion));
    }
    let Some(header) = packet.header::<VxlanHdr>(ETH_LEN + IPV4_LEN + UDP_LEN) else {
        return Err(DropReason::Truncated);
    };
    // RFC 7348, section 5: "the I flag MUST be set to 1 for a valid VNI"; all other bits are
    // ignored on receipt.
    let vni = header.vni();
    if !header.vni_present() || vni == 0 {
        return Err(DropReason::NoVni);
    }
    Ok(Outer::Vxlan(Vxlan {
        source: IpKey::v4(ip.src_addr),
        destination: IpKey::v4(ip.dst_addr),
        vni,
    }))
}

/// The early filter: sender and VNI are known. What it lets pass is checked again, fully, by
/// [`admit`].
#[inline(always)]
pub fn filter<T: Tables>(vxlan: &Vxlan, tables: &T) -> Result<(), Refusal> {
    let Some(peer) = tables.peer(&vxlan.source) else {
        return Err(Refusal::unattributed(DropReason::UnknownPeer));
    };
    if tables.vni(vxlan.vni).is_none() {
        return Err(Refusal::new(DropReason::UnknownVni, 0, peer.index));
    }
    Ok(())
}

/// Who gets a tunnelled frame. Never a peer: whoever flooded it has sent it to them, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receivers {
    /// The endpoint behind this host side of a veth.
    One { ifindex: u32 },
    /// Every endpoint of the network on this host.
    Everyone { vni: u32 },
}

/// A tunnelled frame that may be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub receivers: Receivers,
    /// Slot in STATS.
    pub stats: u32,
    pub inner: Ethernet,
}

/// Whether the frame at `offset` may leave its VNI into a container: the sender is a peer, the
/// inner source is an endpoint of that peer, the inner destination is an endpoint here.
#[inline(always)]
pub fn admit<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    vxlan: &Vxlan,
    tables: &T,
) -> Result<Delivery, Refusal> {
    let vni = vxlan.vni;
    let Some(peer) = tables.peer(&vxlan.source) else {
        return Err(Refusal::unattributed(DropReason::UnknownPeer));
    };
    let peer = peer.index;
    if !vxlan.is_for_us(tables) {
        return Err(Refusal::new(DropReason::OuterDestination, 0, peer));
    }
    let Some(inner) = Ethernet::read(packet, offset) else {
        return Err(Refusal::new(DropReason::Truncated, 0, peer));
    };
    let Some(source) = tables.fdb(&FdbKey::new(vni, inner.source)) else {
        return Err(match tables.vni(vni) {
            None => Refusal::new(DropReason::UnknownVni, 0, peer),
            Some(_) => Refusal::new(DropReason::InnerSource, vni, peer),
        });
    };
    if source.peer != peer {
        return Err(Refusal::new(DropReason::InnerSource, vni, peer));
    }
    let receivers = match receiver(packet, offset, vni, inner, tables) {
        Ok(ifindex) => Receivers::One { ifindex },
        Err(reason) => flooded(vni, reason, tables).ok_or(Refusal::new(reason, vni, peer))?,
    };
    Ok(Delivery {
        receivers,
        stats: source.stats,
        inner,
    })
}

/// The one endpoint here that a frame is for, or why there is none.
#[inline(always)]
fn receiver<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    vni: u32,
    inner: Ethernet,
    tables: &T,
) -> Result<u32, DropReason> {
    let multicast = inner.destination.is_multicast();
    let key = if multicast {
        arp_target(packet, offset, vni, inner, tables).ok_or(DropReason::FloodDisabled)?
    } else {
        FdbKey::new(vni, inner.destination)
    };
    let Some(destination) = tables.fdb(&key) else {
        return Err(DropReason::UnknownDestination);
    };
    match destination.ifindex {
        // A question for an endpoint elsewhere is still a broadcast.
        0 if multicast => Err(DropReason::FloodDisabled),
        0 => Err(DropReason::NotLocal),
        ifindex => Ok(ifindex),
    }
}

/// The receivers of a frame that is for nobody in particular, on a network that floods.
#[inline(always)]
fn flooded<T: Tables>(vni: u32, reason: DropReason, tables: &T) -> Option<Receivers> {
    let spread = matches!(
        reason,
        DropReason::FloodDisabled | DropReason::UnknownDestination
    );
    let floods = spread && flood::mode(&tables.vni(vni)?) != FloodMode::Drop;
    floods.then_some(Receivers::Everyone { vni })
}

/// A peer without our data path asks by broadcast: the question goes to the one endpoint that
/// can answer it.
#[inline(always)]
fn arp_target<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    vni: u32,
    inner: Ethernet,
    tables: &T,
) -> Option<FdbKey> {
    if inner.ethertype != ETHERTYPE_ARP {
        return None;
    }
    let arp = Arp::read(packet, offset + ETH_LEN)?;
    if arp.operation != Operation::Request || arp.sender_mac != inner.source {
        return None;
    }
    let target = tables.neighbor(&NeighborKey {
        vni,
        ip: IpKey::v4(arp.target_ip),
    })?;
    Some(FdbKey::new(vni, target.mac))
}

/// Family of the inner packet, which `bpf_skb_adjust_room` has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Whether the fast path can decapsulate the frame right, or why it cannot. `aggregate` says
/// that it is a GSO super-packet: of those only inner TCP survives.
#[inline(always)]
pub fn decapsulable<P: Packet + ?Sized>(
    packet: &P,
    inner: Ethernet,
    aggregate: bool,
) -> Result<Family, FallbackCause> {
    const INNER_IP: usize = OVERHEAD_V4 + ETH_LEN;
    const V4_PROTOCOL: usize = INNER_IP + 9;
    const V6_NEXT_HEADER: usize = INNER_IP + 6;

    let (family, len, protocol) = match inner.ethertype {
        ETHERTYPE_IPV4 => (Family::V4, IPV4_LEN, V4_PROTOCOL),
        ETHERTYPE_IPV6 => (Family::V6, IPV6_LEN, V6_NEXT_HEADER),
        _ => return Err(FallbackCause::InnerNotIp),
    };
    if packet.frame_len() < INNER_IP + len {
        return Err(FallbackCause::InnerNotIp);
    }
    if aggregate && packet.header::<u8>(protocol) != Some(IPPROTO_TCP) {
        return Err(FallbackCause::InnerAggregate);
    }
    Ok(family)
}

#[inline(always)]
fn ipv4_bytes(ip: &Ipv4Hdr) -> [u8; 20] {
    const { assert!(size_of::<Ipv4Hdr>() == 20) };
    // SAFETY: `Ipv4Hdr` is 20 bytes of `repr(C)` bytes and byte arrays without padding.
    unsafe { core::mem::transmute::<Ipv4Hdr, [u8; 20]>(*ip) }
}
