//! What leaves the underlay device and is not the programs' own.

use super::{Refusal, Tables};
use crate::DropReason;
use crate::layout::Vtep;
use crate::packet::ip::HEADERS_MAX;
use crate::packet::{ETH_LEN, Ethernet, IPPROTO_UDP, IPV4_LEN, Packet, udp};

/// How many bytes of a frame [`guard`] looks at, at most.
#[inline(always)]
pub fn reach<P: Packet + ?Sized>(packet: &P) -> usize {
    match packet.header::<[u8; 12]>(ETH_LEN - 2) {
        Some([0x08, 0x00, .., protocol]) if protocol != IPPROTO_UDP => ETH_LEN + IPV4_LEN,
        Some(_) | None => HEADERS_MAX,
    }
}

/// Refuses VXLAN to a peer, or to a multicast group: it comes from the programs alone. A peer could
/// not tell it from theirs. What is `forwarded` for somebody else is refused if the host has lent it its
/// own address (NAT).
#[inline(always)]
pub fn guard<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    forwarded: bool,
    vtep: &Vtep,
    tables: &T,
) -> Result<(), Refusal> {
    let Some(ethernet) = Ethernet::read(packet, 0) else {
        return Ok(());
    };
    let Some(datagram) = udp::datagram(packet, ethernet.ethertype) else {
        return Ok(());
    };
    if datagram
        .port
        .is_some_and(|port| u32::from(port) != vtep.port)
    {
        return Ok(());
    }
    if forwarded && datagram.source != vtep.ip4 && datagram.source != vtep.ip6 {
        return Ok(());
    }
    match tables.peer(&datagram.destination) {
        Some(peer) => Err(Refusal::new(DropReason::Forged, 0, peer.index)),
        None if datagram.destination.is_multicast() => {
            Err(Refusal::unattributed(DropReason::Forged))
        }
        None => Ok(()),
    }
}
