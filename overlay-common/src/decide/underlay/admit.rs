//! Whether a tunnelled frame may leave its VNI.

use super::classify::Vxlan;
use crate::DropReason;
use crate::decide::{Refusal, Tables, endpoint_of, flood};
use crate::layout::{FdbValue, FloodMode, NeighborKey, PeerIndex, PeerValue, Vtep, vni_flags};
use crate::net::{IpKey, MacAddr};
use crate::packet::arp::{Arp, Operation};
use crate::packet::ip::IPPROTO_ICMPV6;
use crate::packet::nd::SOLICITATION;
use crate::packet::{
    ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV6, ETHERTYPE_MIN, ETHERTYPE_MPLS, ETHERTYPE_MPLS_UPSTREAM,
    ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, IPV6_LEN, Packet,
};

/// The early filter: sender and VNI are known. What it lets pass is checked again, fully, by
/// [`admit`].
#[inline(always)]
pub fn filter<T: Tables>(vxlan: &Vxlan, vtep: &Vtep, tables: &T) -> Result<(), Refusal> {
    let Some(peer) = tables.peer(&vxlan.source) else {
        return Err(stranger(vxlan, vtep));
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
    /// Who sent it.
    pub peer: PeerIndex,
    /// [`crate::layout::fdb_flags`] of the one receiving endpoint.
    pub flags: u32,
}

/// Whether the frame at `offset` may leave its VNI into a container: the sender is a peer, the
/// inner source is an endpoint of that peer, the inner destination is an endpoint here.
#[inline(always)]
pub fn admit<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    vxlan: &Vxlan,
    vtep: &Vtep,
    tables: &T,
) -> Result<Delivery, Refusal> {
    let sent = Sent::read(packet, offset, vxlan.vni, tables);
    // A frame nearly always comes from where the tunnel to the inner source's peer goes to, and that is no
    // look-up in a hash table. For what comes from a peer's other address, PEERS has it.
    let source = sent.and_then(|sent| sent.source);
    let peer = match source {
        Some(source) if tables.ends_at(source.peer, &vxlan.source) => source.peer,
        Some(_) | None => match tables.peer(&vxlan.source) {
            Some(PeerValue { index }) => index,
            None => return Err(stranger(vxlan, vtep)),
        },
    };
    if !vxlan.is_for_us(tables) {
        return Err(Refusal::new(DropReason::OuterDestination, 0, peer));
    }
    admit_sent(packet, offset, vxlan.vni, peer, sent, tables)
}

/// The part of [`admit`] that needs no outer headers: `peer` has sent the frame to this host.
#[inline(always)]
pub fn admit_inner<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    vni: u32,
    peer: PeerIndex,
    tables: &T,
) -> Result<Delivery, Refusal> {
    let sent = Sent::read(packet, offset, vni, tables);
    admit_sent(packet, offset, vni, peer, sent, tables)
}

/// The inner Ethernet header and, if it is an endpoint's, where its source is.
#[derive(Clone, Copy)]
struct Sent {
    inner: Ethernet,
    source: Option<FdbValue>,
}

impl Sent {
    #[inline(always)]
    fn read<P: Packet + ?Sized, T: Tables>(
        packet: &P,
        offset: usize,
        vni: u32,
        tables: &T,
    ) -> Option<Self> {
        let inner = Ethernet::read(packet, offset)?;
        Some(Self {
            inner,
            source: endpoint_of(tables, vni, inner.source),
        })
    }
}

#[inline(always)]
fn admit_sent<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    vni: u32,
    peer: PeerIndex,
    sent: Option<Sent>,
    tables: &T,
) -> Result<Delivery, Refusal> {
    let Some(Sent { inner, source }) = sent else {
        return Err(Refusal::new(DropReason::Truncated, 0, peer));
    };
    let Some(source) = source else {
        return Err(match tables.vni(vni) {
            None => Refusal::new(DropReason::UnknownVni, 0, peer),
            Some(_) => Refusal::new(DropReason::InnerSource, vni, peer),
        });
    };
    if source.peer != peer {
        return Err(Refusal::new(DropReason::InnerSource, vni, peer));
    }
    if !inner.is_ip() {
        may_carry(inner.ethertype, vni, peer, tables)?;
    }
    let (receivers, flags) = match receiver(packet, offset, vni, inner, tables) {
        Ok(FdbValue { ifindex, flags, .. }) => (Receivers::One { ifindex }, flags),
        Err(reason) => {
            let refusal = Refusal::new(reason, vni, peer);
            (flooded(vni, inner, reason, tables).ok_or(refusal)?, 0)
        }
    };
    Ok(Delivery {
        receivers,
        stats: source.stats,
        inner,
        peer,
        flags,
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
) -> Result<FdbValue, DropReason> {
    let mac = if inner.destination.is_multicast() {
        asked(packet, offset, vni, inner, tables).ok_or(DropReason::FloodDisabled)?
    } else {
        inner.destination
    };
    let Some(destination) = endpoint_of(tables, vni, mac) else {
        return Err(DropReason::UnknownDestination);
    };
    if destination.ifindex == 0 {
        return Err(DropReason::NotLocal);
    }
    Ok(destination)
}

/// The receivers of a frame that is not for one endpoint here, on a network that floods: all, unless
/// it is unicast to an endpoint elsewhere. A question for one elsewhere is still a broadcast.
#[inline(always)]
fn flooded<T: Tables>(
    vni: u32,
    inner: Ethernet,
    reason: DropReason,
    tables: &T,
) -> Option<Receivers> {
    if reason == DropReason::NotLocal && !inner.destination.is_multicast() {
        return None;
    }
    let floods = flood::mode(&tables.vni(vni)?) != FloodMode::Drop;
    floods.then_some(Receivers::Everyone { vni })
}

/// A frame whose VLAN tag the kernel keeps beside it: only where the network carries those
/// (RFC 7348, section 6.1).
#[inline(always)]
pub fn tagged<T: Tables>(vni: u32, peer: PeerIndex, tables: &T) -> Result<(), Refusal> {
    may_carry(ETHERTYPE_VLAN, vni, peer, tables)
}

/// Whether a network carries frames of an ethertype that is not IP's.
#[inline(always)]
fn may_carry<T: Tables>(
    ethertype: u16,
    vni: u32,
    peer: PeerIndex,
    tables: &T,
) -> Result<(), Refusal> {
    let refuse = |reason| Err(Refusal::new(reason, vni, peer));
    match ethertype {
        0..ETHERTYPE_MIN => refuse(DropReason::Llc),
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => refuse(DropReason::Mpls),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => match tables.vni(vni) {
            Some(network) if network.flags & vni_flags::VLAN != 0 => Ok(()),
            Some(_) | None => refuse(DropReason::Vlan),
        },
        _ => Ok(()),
    }
}

/// A sender that is no peer.
#[inline(always)]
fn stranger(vxlan: &Vxlan, vtep: &Vtep) -> Refusal {
    let own = vxlan.source == vtep.ip4 || vxlan.source == vtep.ip6;
    Refusal::unattributed(if own {
        DropReason::OwnSource
    } else {
        DropReason::UnknownPeer
    })
}

/// A peer without our data path asks everybody who has an address: the question goes to the one
/// endpoint that can answer it.
#[inline(always)]
fn asked<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    vni: u32,
    inner: Ethernet,
    tables: &T,
) -> Option<MacAddr> {
    let ip = match inner.ethertype {
        ETHERTYPE_ARP => arp_target(packet, offset + ETH_LEN, inner)?,
        ETHERTYPE_IPV6 => solicited(packet, offset + ETH_LEN)?,
        _ => return None,
    };
    let target = tables.neighbor(&NeighborKey { vni, ip })?;
    Some(target.mac)
}

#[inline(always)]
fn arp_target<P: Packet + ?Sized>(packet: &P, offset: usize, inner: Ethernet) -> Option<IpKey> {
    let arp = Arp::read(packet, offset)?;
    if arp.operation != Operation::Request || arp.sender_mac != inner.source {
        return None;
    }
    Some(IpKey::v4(arp.target_ip))
}

/// Target of a neighbour solicitation (RFC 4861, section 4.3) whose IPv6 header is at `offset`; whether
/// it is well-formed is the receiver's to say.
#[inline(always)]
fn solicited<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<IpKey> {
    let [next_header, _hop_limit] = packet.header::<[u8; 2]>(offset + 6)?;
    let [kind, _code] = packet.header::<[u8; 2]>(offset + IPV6_LEN)?;
    if next_header != IPPROTO_ICMPV6 || kind != SOLICITATION {
        return None;
    }
    let target = packet.header::<[u8; 16]>(offset + IPV6_LEN + 8)?;
    Some(IpKey::v6(target))
}
