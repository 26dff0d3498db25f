//! What processes of this host send out of the underlay device.

use super::{Refusal, Tables};
use crate::DropReason;
use crate::layout::Vtep;
use crate::packet::{ETH_LEN, Ethernet, Packet, udp};

/// Refuses VXLAN to a peer, or to a multicast group: it comes from the programs alone. A peer could
/// not tell it from theirs.
#[inline(always)]
pub fn guard<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    vtep: &Vtep,
    tables: &T,
) -> Result<(), Refusal> {
    let Some(ethernet) = Ethernet::read(packet, 0) else {
        return Ok(());
    };
    let Some((ip, port)) = udp::destination(packet, ethernet.ethertype, ETH_LEN) else {
        return Ok(());
    };
    if u32::from(port) != vtep.port {
        return Ok(());
    }
    match tables.peer(&ip) {
        Some(peer) => Err(Refusal::new(DropReason::Forged, 0, peer.index)),
        None if ip.is_multicast() => Err(Refusal::unattributed(DropReason::Forged)),
        None => Ok(()),
    }
}
