//! What may leave its tunnel in XDP, before the kernel has made an skb of it.

use super::classify::Vxlan;
use crate::layout::{Vtep, vtep_flags};
use crate::packet::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPPROTO_TCP, Packet};

/// Whether XDP may take the outer headers off a frame that is then admitted; it is behind `outer_len`
/// bytes. What may not is the business of `from_underlay`:
///
/// - with an outer checksum, which nobody has verified yet;
/// - for another MAC, which an skb would be marked for (`PACKET_OTHERHOST`);
/// - with the device's own MAC inside: the host's stack would take it for its own, should
///   `from_underlay` be gone meanwhile;
/// - other than TCP: GRO works on what comes out, in the host's namespace. It merges TCP, and takes
///   tunnels (UDP encapsulation, ESP, GRE) for those of the host.
#[inline(always)]
pub fn strips_early<P: Packet + ?Sized>(
    packet: &P,
    outer_len: usize,
    vxlan: &Vxlan,
    vtep: &Vtep,
) -> bool {
    if vtep.flags & vtep_flags::XDP_DECAP == 0 || vxlan.has_checksum {
        return false;
    }
    let Some(outer) = Ethernet::read(packet, 0) else {
        return false;
    };
    if outer.destination != vtep.mac {
        return false;
    }
    let Some(inner) = Ethernet::read(packet, outer_len) else {
        return false;
    };
    if inner.destination == vtep.mac || inner.destination.is_multicast() {
        return false;
    }
    // The protocol and the byte after it, which is there in either header.
    let protocol = match inner.ethertype {
        ETHERTYPE_IPV4 => 9,
        ETHERTYPE_IPV6 => 6,
        _ => return false,
    };
    let protocol = packet.header::<[u8; 2]>(outer_len + ETH_LEN + protocol);
    matches!(protocol, Some([IPPROTO_TCP, _]))
}
