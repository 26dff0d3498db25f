//! The outer headers: a template per peer, made once, and the few fields that change per packet.

mod template;

#[cfg(test)]
mod tests;

pub use template::{Template, destination, source};

use super::checksum::fold;
use super::{ETH_LEN, Ethernet, IPV4_LEN, IPV6_LEN, OVERHEAD_V4, OVERHEAD_V6, UDP_LEN, VXLAN_LEN};
use crate::layout::TUNNEL_HEADER_MAX;

/// Outer headers over IPv4 and the copy of the inner Ethernet header that
/// `bpf_skb_adjust_room` leaves to be written.
pub const ENCAP_V4_LEN: usize = OVERHEAD_V4 + ETH_LEN;
/// The same over IPv6.
pub const ENCAP_V6_LEN: usize = OVERHEAD_V6 + ETH_LEN;

const IP: usize = ETH_LEN;
const UDP_V4: usize = IP + IPV4_LEN;
const UDP_V6: usize = IP + IPV6_LEN;

/// What differs from packet to packet to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Header of the inner frame.
    pub inner: Ethernet,
    /// Length of the inner frame in bytes, at most 65535 less the outer headers from the IP
    /// header on.
    pub inner_len: u16,
    pub vni: u32,
    pub source_port: u16,
    /// Outer DSCP and ECN ([`crate::decide::tunnel::traffic_class`]).
    pub traffic_class: u8,
}

/// The first 64 bytes of a frame encapsulated over IPv4: outer headers from the template, then
/// the inner Ethernet header.
#[inline(always)]
pub fn headers_v4(template: &[u8; TUNNEL_HEADER_MAX], variable: &Variable) -> [u8; ENCAP_V4_LEN] {
    let mut bytes = [0; ENCAP_V4_LEN];
    bytes[..OVERHEAD_V4].copy_from_slice(&template[..OVERHEAD_V4]);

    let total = variable.inner_len + (OVERHEAD_V4 - ETH_LEN) as u16;
    let sum = u32::from(u16::from_be_bytes([bytes[IP + 10], bytes[IP + 11]]));
    let check = !fold(sum + u32::from(total) + u32::from(variable.traffic_class));
    bytes[IP + 1] = variable.traffic_class;
    put(&mut bytes, IP + 2, total.to_be_bytes());
    put(&mut bytes, IP + 10, check.to_be_bytes());

    finish::<ENCAP_V4_LEN, UDP_V4>(&mut bytes, variable);
    bytes
}

/// The first 84 bytes of a frame encapsulated over IPv6. The UDP checksum stays zero, which
/// tunnels may do (RFC 6935, section 5), and so does the flow label: the source port tells flows
/// apart.
#[inline(always)]
pub fn headers_v6(template: &[u8; TUNNEL_HEADER_MAX], variable: &Variable) -> [u8; ENCAP_V6_LEN] {
    let mut bytes = [0; ENCAP_V6_LEN];
    bytes[..OVERHEAD_V6].copy_from_slice(&template[..OVERHEAD_V6]);

    bytes[IP] = 0x60 | variable.traffic_class >> 4;
    bytes[IP + 1] = variable.traffic_class << 4;
    let payload = variable.inner_len + (UDP_LEN + VXLAN_LEN) as u16;
    put(&mut bytes, IP + 4, payload.to_be_bytes());

    finish::<ENCAP_V6_LEN, UDP_V6>(&mut bytes, variable);
    bytes
}

/// UDP and VXLAN, which both families have in common, and the inner Ethernet header.
#[inline(always)]
fn finish<const LEN: usize, const UDP: usize>(bytes: &mut [u8; LEN], variable: &Variable) {
    let vxlan = UDP + UDP_LEN;
    let udp_len = variable.inner_len + (UDP_LEN + VXLAN_LEN) as u16;
    put(bytes, UDP, variable.source_port.to_be_bytes());
    put(bytes, UDP + 4, udp_len.to_be_bytes());

    let [_, a, b, c] = variable.vni.to_be_bytes();
    bytes[vxlan + 4] = a;
    bytes[vxlan + 5] = b;
    bytes[vxlan + 6] = c;

    bytes[vxlan + VXLAN_LEN..].copy_from_slice(&variable.inner.to_bytes());
}

#[inline(always)]
fn put<const LEN: usize>(bytes: &mut [u8; LEN], at: usize, value: [u8; 2]) {
    bytes[at] = value[0];
    bytes[at + 1] = value[1];
}
