//! The headers to one peer, as far as they are the same for every packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::checksum::{fold, ipv4_sum};
use super::super::{
    ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPPROTO_UDP, IPV4_LEN, IPV6_LEN,
    OVERHEAD_V4, OVERHEAD_V6, UDP_LEN,
};
use super::{IP, UDP_V4, UDP_V6};
use crate::layout::{TUNNEL_HEADER_MAX, TunnelValue, tunnel_flags};
use crate::net::{IpKey, MacAddr};

const DONT_FRAGMENT: u8 = 0x40;
/// I flag: the VNI is valid (RFC 7348, section 5).
const VXLAN_FLAGS: u8 = 0x08;

/// What the outer headers to a peer are made of. Source and destination are of one family; of
/// two, there is no header, as there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    pub source_mac: MacAddr,
    /// MAC of the next hop; zero while it is unknown.
    pub next_hop: MacAddr,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// UDP port of the peer.
    pub port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP in the upper six bits; the ECN bits come from each inner packet.
    pub tos: u8,
}

impl Template {
    /// The headers with length, source port and VNI zero. Over IPv4 the checksum field holds the
    /// plain sum of the other fields but the type of service, so that a packet needs two
    /// additions. The UDP checksum is zero (RFC 7348, section 5; RFC 6935 for IPv6).
    pub fn to_bytes(&self) -> [u8; TUNNEL_HEADER_MAX] {
        let mut bytes = [0; TUNNEL_HEADER_MAX];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes[IP..UDP_V4].copy_from_slice(&self.ipv4(source, destination));
                self.around(&mut bytes, ETHERTYPE_IPV4, UDP_V4);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes[IP..UDP_V6].copy_from_slice(&self.ipv6(source, destination));
                self.around(&mut bytes, ETHERTYPE_IPV6, UDP_V6);
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
        bytes
    }

    /// Bytes of [`Self::to_bytes`] in use: 50 over IPv4, 70 over IPv6, 0 when the families differ.
    pub const fn header_len(&self) -> u32 {
        match (self.source, self.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => OVERHEAD_V4 as u32,
            (IpAddr::V6(_), IpAddr::V6(_)) => OVERHEAD_V6 as u32,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
        }
    }

    /// The [`tunnel_flags`] that follow from the headers: RESOLVED and IPV6.
    pub const fn flags(&self) -> u32 {
        let resolved = if self.next_hop.is_zero() {
            0
        } else {
            tunnel_flags::RESOLVED
        };
        match self.destination {
            IpAddr::V4(_) => resolved,
            IpAddr::V6(_) => resolved | tunnel_flags::IPV6,
        }
    }

    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> [u8; IPV4_LEN] {
        let mut ip = [0; IPV4_LEN];
        ip[0] = 0x45;
        ip[6] = DONT_FRAGMENT;
        ip[8] = self.ttl;
        ip[9] = IPPROTO_UDP;
        ip[12..16].copy_from_slice(&source.octets());
        ip[16..20].copy_from_slice(&destination.octets());
        let sum = fold(ipv4_sum(&ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip[1] = self.tos & !0b11;
        ip
    }

    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> [u8; IPV6_LEN] {
        let tos = self.tos & !0b11;
        let mut ip = [0; IPV6_LEN];
        ip[0] = 0x60 | tos >> 4;
        ip[1] = tos << 4;
        ip[6] = IPPROTO_UDP;
        ip[7] = self.ttl;
        ip[8..24].copy_from_slice(&source.octets());
        ip[24..40].copy_from_slice(&destination.octets());
        ip
    }

    /// The headers before and behind the IP header.
    fn around(&self, bytes: &mut [u8; TUNNEL_HEADER_MAX], ethertype: u16, udp: usize) {
        let ethernet = Ethernet {
            destination: self.next_hop,
            source: self.source_mac,
            ethertype,
        };
        bytes[..ETH_LEN].copy_from_slice(&ethernet.to_bytes());
        bytes[udp + 2..udp + 4].copy_from_slice(&self.port.to_be_bytes());
        bytes[udp + UDP_LEN] = VXLAN_FLAGS;
    }
}

/// The outer source of a tunnel; 0.0.0.0 when it has no header.
pub fn source(tunnel: &TunnelValue) -> IpAddr {
    if tunnel.is_ipv6() {
        return IpAddr::V6(tunnel.source_v6().into());
    }
    IpAddr::V4(tunnel.source_v4().into())
}

/// The outer destination of a tunnel; 0.0.0.0 when it has no header.
pub fn destination(tunnel: &TunnelValue) -> IpAddr {
    if tunnel.is_ipv6() {
        return IpAddr::V6(tunnel.destination_v6().into());
    }
    IpAddr::V4(tunnel.destination_v4().into())
}

/// The fields that the kernel's vxlan device has to be told.
impl TunnelValue {
    #[inline(always)]
    pub const fn is_ipv6(&self) -> bool {
        self.flags & tunnel_flags::IPV6 != 0
    }

    /// Whether it goes to a group: the next hop's MAC, which is the group's then, says so.
    #[inline(always)]
    pub const fn is_group(&self) -> bool {
        self.header[0] & 1 != 0
    }

    /// DSCP of the template, in the upper six bits of the traffic class.
    #[inline(always)]
    pub const fn tos(&self) -> u8 {
        if self.is_ipv6() {
            return self.header[IP] << 4 | self.header[IP + 1] >> 4;
        }
        self.header[IP + 1]
    }

    /// TTL or hop limit.
    #[inline(always)]
    pub const fn ttl(&self) -> u8 {
        self.header[if self.is_ipv6() { IP + 7 } else { IP + 8 }]
    }

    #[inline(always)]
    pub fn source_v4(&self) -> [u8; 4] {
        self.bytes(IP + 12)
    }

    #[inline(always)]
    pub fn destination_v4(&self) -> [u8; 4] {
        self.bytes(IP + 16)
    }

    #[inline(always)]
    pub fn source_v6(&self) -> [u8; 16] {
        self.bytes(IP + 8)
    }

    #[inline(always)]
    pub fn destination_v6(&self) -> [u8; 16] {
        self.bytes(IP + 24)
    }

    /// Whether there is a header, and it goes to the address.
    #[inline(always)]
    pub fn ends_at(&self, address: &IpKey) -> bool {
        let destination = if self.is_ipv6() {
            IpKey::v6(self.destination_v6())
        } else {
            IpKey::v4(self.destination_v4())
        };
        self.header_len != 0 && destination == *address
    }

    #[inline(always)]
    fn bytes<const LEN: usize>(&self, at: usize) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&self.header[at..at + LEN]);
        bytes
    }
}
