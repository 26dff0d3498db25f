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

/// The front of a frame, where its outer headers are to be written.
pub trait Room {
    /// Copies the first `LEN` bytes of a template to the first bytes.
    fn copy<const LEN: usize>(&mut self, template: &[u8; TUNNEL_HEADER_MAX]);

    /// Writes bytes `AT` bytes behind the first one.
    fn put<const AT: usize, const LEN: usize>(&mut self, bytes: [u8; LEN]);
}

impl Room for [u8] {
    fn copy<const LEN: usize>(&mut self, template: &[u8; TUNNEL_HEADER_MAX]) {
        self[..LEN].copy_from_slice(&template[..LEN]);
    }

    fn put<const AT: usize, const LEN: usize>(&mut self, bytes: [u8; LEN]) {
        self[AT..AT + LEN].copy_from_slice(&bytes);
    }
}

/// Writes the first [`ENCAP_V4_LEN`] bytes of a frame encapsulated over IPv4: outer headers from the
/// template, then the inner Ethernet header.
#[inline(always)]
pub fn write_v4<R: Room + ?Sized>(
    room: &mut R,
    template: &[u8; TUNNEL_HEADER_MAX],
    variable: &Variable,
) {
    room.copy::<OVERHEAD_V4>(template);
    let total = variable.inner_len + (OVERHEAD_V4 - ETH_LEN) as u16;
    let sum = u32::from(u16::from_be_bytes([template[IP + 10], template[IP + 11]]));
    let check = !fold(sum + u32::from(total) + u32::from(variable.traffic_class));
    room.put::<{ IP + 1 }, _>([variable.traffic_class]);
    room.put::<{ IP + 2 }, _>(total.to_be_bytes());
    room.put::<{ IP + 10 }, _>(check.to_be_bytes());

    let udp_len = variable.inner_len + (UDP_LEN + VXLAN_LEN) as u16;
    room.put::<UDP_V4, _>(variable.source_port.to_be_bytes());
    room.put::<{ UDP_V4 + 4 }, _>(udp_len.to_be_bytes());
    room.put::<{ UDP_V4 + UDP_LEN + 4 }, _>(variable.vni_field());
    room.put::<OVERHEAD_V4, _>(variable.inner.to_bytes());
}

/// Writes the first [`ENCAP_V6_LEN`] bytes of a frame encapsulated over IPv6. The UDP checksum stays
/// zero, which tunnels may do (RFC 6935, section 5), and so does the flow label: the source port
/// tells flows apart.
#[inline(always)]
pub fn write_v6<R: Room + ?Sized>(
    room: &mut R,
    template: &[u8; TUNNEL_HEADER_MAX],
    variable: &Variable,
) {
    room.copy::<OVERHEAD_V6>(template);
    let class = variable.traffic_class;
    room.put::<IP, _>([0x60 | class >> 4, class << 4]);

    let payload = variable.inner_len + (UDP_LEN + VXLAN_LEN) as u16;
    room.put::<{ IP + 4 }, _>(payload.to_be_bytes());
    room.put::<UDP_V6, _>(variable.source_port.to_be_bytes());
    room.put::<{ UDP_V6 + 4 }, _>(payload.to_be_bytes());
    room.put::<{ UDP_V6 + UDP_LEN + 4 }, _>(variable.vni_field());
    room.put::<OVERHEAD_V6, _>(variable.inner.to_bytes());
}

impl Variable {
    /// The last word of the VXLAN header: the VNI and a reserved byte (RFC 7348, section 5).
    #[inline(always)]
    const fn vni_field(&self) -> [u8; 4] {
        (self.vni << 8).to_be_bytes()
    }
}
