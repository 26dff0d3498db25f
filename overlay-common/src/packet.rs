//! Reading and writing headers, over any buffer.

pub mod arp;
pub mod checksum;
pub mod ecn;
pub mod encap;
pub mod flow;
pub mod icmp;
pub mod ip;
pub mod nd;
pub mod udp;

use network_types::arp::ArpHdr;
use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;
use network_types::vxlan::VxlanHdr;

use crate::net::MacAddr;

pub const ETH_LEN: usize = 14;
pub const IPV4_LEN: usize = 20;
pub const IPV6_LEN: usize = 40;
pub const UDP_LEN: usize = 8;
pub const VXLAN_LEN: usize = 8;
/// Ethertype and number of a VLAN.
pub const VLAN_TAG_LEN: usize = 4;
/// Bytes that VXLAN over IPv4 adds in front of a frame.
pub const OVERHEAD_V4: usize = ETH_LEN + IPV4_LEN + UDP_LEN + VXLAN_LEN;
/// Bytes that VXLAN over IPv6 adds in front of a frame.
pub const OVERHEAD_V6: usize = ETH_LEN + IPV6_LEN + UDP_LEN + VXLAN_LEN;

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_VLAN: u16 = 0x8100;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
pub const ETHERTYPE_QINQ: u16 = 0x88a8;
pub const ETHERTYPE_MPLS: u16 = 0x8847;
/// MPLS with an upstream-assigned label (RFC 5332).
pub const ETHERTYPE_MPLS_UPSTREAM: u16 = 0x8848;
/// Below this the field is the length of an 802.3 frame (IEEE 802.3, clause 3.2.6).
pub const ETHERTYPE_MIN: u16 = 0x0600;

pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;

/// A header that can be copied out of a packet.
///
/// # Safety
///
/// Implementors have no padding, and every bit pattern is a value.
pub unsafe trait Header: Copy {}

macro_rules! headers {
    ($($type:ty),+) => { $(
        // SAFETY: `repr(C)` bytes, byte arrays and (EthHdr, at its end) one aligned integer.
        unsafe impl Header for $type {}
    )+ };
}
headers!(EthHdr, Ipv4Hdr, Ipv6Hdr, UdpHdr, VxlanHdr, ArpHdr, u8);

// SAFETY: bytes.
unsafe impl<const N: usize> Header for [u8; N] {}

/// A frame from its Ethernet header on.
pub trait Packet {
    /// Length of the whole frame in bytes.
    fn frame_len(&self) -> usize;

    /// The header at `offset` bytes, or `None` when the frame ends before its last byte. Where the
    /// offset is not a constant, headers of two bytes and more: the compiler turns the check for one
    /// byte into a comparison from which the verifier learns nothing.
    fn header<T: Header>(&self, offset: usize) -> Option<T>;
}

impl Packet for [u8] {
    fn frame_len(&self) -> usize {
        self.len()
    }

    fn header<T: Header>(&self, offset: usize) -> Option<T> {
        let bytes = self.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: `bytes` holds `size_of::<T>()` bytes and `Header` makes any of them a value.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}

/// Destination, source and ethertype of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    pub destination: MacAddr,
    pub source: MacAddr,
    /// Host byte order.
    pub ethertype: u16,
}

impl Ethernet {
    #[inline(always)]
    pub fn read<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<Self> {
        let header = packet.header::<EthHdr>(offset)?;
        Some(Self {
            destination: MacAddr(header.dst_addr),
            source: MacAddr(header.src_addr),
            ethertype: u16::from_be(header.ether_type),
        })
    }

    #[inline(always)]
    pub const fn to_bytes(self) -> [u8; ETH_LEN] {
        let d = self.destination.0;
        let s = self.source.0;
        let [hi, lo] = self.ethertype.to_be_bytes();
        [
            d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5], hi, lo,
        ]
    }

    /// Whether `bpf_skb_adjust_room` can work on the frame.
    #[inline(always)]
    pub const fn is_ip(self) -> bool {
        matches!(self.ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6)
    }
}
