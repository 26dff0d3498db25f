//! The outer headers: a template per peer, made once, and the few fields that change per packet.

use super::checksum::{fold, ipv4_sum};
use super::{
    ETH_LEN, ETHERTYPE_IPV4, Ethernet, IPPROTO_UDP, IPV4_LEN, OVERHEAD_V4, UDP_LEN, VXLAN_LEN,
};
use crate::layout::TUNNEL_HEADER_MAX;
use crate::net::MacAddr;

/// Outer headers over IPv4 and the copy of the inner Ethernet header that
/// `bpf_skb_adjust_room` leaves to be written.
pub const ENCAP_V4_LEN: usize = OVERHEAD_V4 + ETH_LEN;

/// Bytes of the outer IP packet that are not the inner frame.
pub const IP_OVERHEAD_V4: usize = IPV4_LEN + UDP_LEN + VXLAN_LEN;

const IP: usize = ETH_LEN;
const UDP: usize = IP + IPV4_LEN;
const VXLAN: usize = UDP + UDP_LEN;
const DONT_FRAGMENT: u8 = 0x40;
/// I flag: the VNI is valid (RFC 7348, section 5).
const VXLAN_FLAGS: u8 = 0x08;

/// What the outer headers to a peer are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    pub source_mac: MacAddr,
    /// MAC of the next hop; zero while it is unknown.
    pub next_hop: MacAddr,
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub port: u16,
    pub ttl: u8,
}

impl Template {
    /// The first 50 bytes are the headers with length, source port and VNI zero. The checksum
    /// field holds the plain sum of the others, so that a packet needs one addition. The UDP
    /// checksum is zero (RFC 7348, section 5).
    pub fn to_bytes(&self) -> [u8; TUNNEL_HEADER_MAX] {
        let mut bytes = [0; TUNNEL_HEADER_MAX];
        let ethernet = Ethernet {
            destination: self.next_hop,
            source: self.source_mac,
            ethertype: ETHERTYPE_IPV4,
        };
        bytes[..ETH_LEN].copy_from_slice(&ethernet.to_bytes());

        let mut ip = [0; IPV4_LEN];
        ip[0] = 0x45;
        ip[6] = DONT_FRAGMENT;
        ip[8] = self.ttl;
        ip[9] = IPPROTO_UDP;
        ip[12..16].copy_from_slice(&self.source);
        ip[16..20].copy_from_slice(&self.destination);
        let sum = fold(ipv4_sum(&ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes[IP..UDP].copy_from_slice(&ip);

        bytes[UDP + 2..UDP + 4].copy_from_slice(&self.port.to_be_bytes());
        bytes[VXLAN] = VXLAN_FLAGS;
        bytes
    }
}

/// The outer destination in a template.
#[inline(always)]
pub const fn destination(template: &[u8; TUNNEL_HEADER_MAX]) -> [u8; 4] {
    [template[30], template[31], template[32], template[33]]
}

/// The outer source in a template.
#[inline(always)]
pub const fn source(template: &[u8; TUNNEL_HEADER_MAX]) -> [u8; 4] {
    [template[26], template[27], template[28], template[29]]
}

/// The first 64 bytes of an encapsulated frame: outer headers from the template, then the inner
/// Ethernet header. `inner_len` is the length of the inner frame and at most 65535 − 36.
#[inline(always)]
pub fn headers_v4(
    template: &[u8; TUNNEL_HEADER_MAX],
    inner: Ethernet,
    inner_len: u16,
    vni: u32,
    source_port: u16,
) -> [u8; ENCAP_V4_LEN] {
    let mut bytes = [0; ENCAP_V4_LEN];
    bytes[..OVERHEAD_V4].copy_from_slice(&template[..OVERHEAD_V4]);

    let total = inner_len + IP_OVERHEAD_V4 as u16;
    let sum = u32::from(u16::from_be_bytes([bytes[IP + 10], bytes[IP + 11]]));
    let check = !fold(sum + u32::from(total));
    put(&mut bytes, IP + 2, total.to_be_bytes());
    put(&mut bytes, IP + 10, check.to_be_bytes());

    put(&mut bytes, UDP, source_port.to_be_bytes());
    put(&mut bytes, UDP + 4, (total - IPV4_LEN as u16).to_be_bytes());

    let [_, a, b, c] = vni.to_be_bytes();
    bytes[VXLAN + 4] = a;
    bytes[VXLAN + 5] = b;
    bytes[VXLAN + 6] = c;

    bytes[OVERHEAD_V4..].copy_from_slice(&inner.to_bytes());
    bytes
}

#[inline(always)]
fn put(bytes: &mut [u8; ENCAP_V4_LEN], at: usize, value: [u8; 2]) {
    bytes[at] = value[0];
    bytes[at + 1] = value[1];
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const TEMPLATE: Template = Template {
        source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        next_hop: MacAddr([2, 0, 0, 0, 0, 2]),
        source: [192, 0, 2, 1],
        destination: [192, 0, 2, 2],
        port: 4789,
        ttl: 64,
    };

    proptest::proptest! {
        /// An independent parser accepts every header and reads back what went in.
        #[test]
        fn well_formed(inner_len in 14u16..=65499, vni in 1u32..=0xff_ffff, port in 49152u16..) {
            let inner = Ethernet {
                destination: MacAddr([2, 0, 0, 0, 0, 3]),
                source: MacAddr([2, 0, 0, 0, 0, 4]),
                ethertype: ETHERTYPE_IPV4,
            };
            let headers = headers_v4(&TEMPLATE.to_bytes(), inner, inner_len, vni, port);
            let mut frame = headers.to_vec();
            frame.resize(OVERHEAD_V4 + usize::from(inner_len), 0);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("no IPv4") };
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert!(ip.dont_fragment);
            assert_eq!((ip.source, ip.destination), (TEMPLATE.source, TEMPLATE.destination));
            let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no UDP") };
            assert_eq!((udp.source_port(), udp.destination_port()), (port, 4789));
            assert_eq!((udp.length(), udp.checksum()), (inner_len + 16, 0));
            assert_eq!(udp.payload()[..8], [8, 0, 0, 0, (vni >> 16) as u8, (vni >> 8) as u8, vni as u8, 0]);
            assert_eq!(udp.payload()[8..22], inner.to_bytes());
        }
    }

    #[test]
    fn addresses_are_found_again() {
        let bytes = TEMPLATE.to_bytes();
        assert_eq!(source(&bytes), TEMPLATE.source);
        assert_eq!(destination(&bytes), TEMPLATE.destination);
    }
}
