//! What leaves the underlay device and is not the programs' own.

use super::{Refusal, Tables};
use crate::DropReason;
use crate::layout::Vtep;
use crate::packet::{Ethernet, Packet, udp};

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
