//! What processes of this host send out of the underlay device.

use super::{Refusal, Tables};
use crate::DropReason;
use crate::layout::Vtep;
use crate::net::IpKey;
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
        None if is_multicast(ip) => Err(Refusal::unattributed(DropReason::Forged)),
        None => Ok(()),
    }
}

#[inline(always)]
fn is_multicast(ip: IpKey) -> bool {
    match ip.to_v4() {
        Some([first, ..]) => first & 0xf0 == 0xe0,
        None => ip.0[0] == 0xff,
    }
}
