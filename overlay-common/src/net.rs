//! Checked newtypes for the addresses of an overlay.

use core::cmp::Ordering;

#[cfg(feature = "user")]
mod text;

#[cfg(feature = "user")]
pub use text::{ParseMacError, ParseVniError};

/// An Ethernet address in wire order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set (IEEE 802): multicast or broadcast.
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Of a network's gateways and of the service address, the same on every host: locally
    /// administered, `ov` in ASCII, and the VNI. **Contract**: an endpoint that moves goes on using it.
    #[inline(always)]
    pub const fn of_gateway(vni: u32) -> Self {
        let [_, a, b, c] = vni.to_be_bytes();
        Self([0x02, b'o', b'v', a, b, c])
    }

    /// Whether all bytes are zero, which no interface may have.
    #[inline(always)]
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

/// A VXLAN network identifier: 1 to 2²⁴−1 (RFC 7348, section 5; 0 is refused because hardware
/// VTEPs and Linux give it a meaning of their own).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    pub const MAX: u32 = 0xff_ffff;

    /// `None` for 0 and for what does not fit 24 bits.
    #[inline(always)]
    pub const fn new(value: u32) -> Option<Self> {
        if value == 0 || value > Self::MAX {
            return None;
        }
        Some(Self(value))
    }

    #[inline(always)]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// An IPv4 or IPv6 address as a map key: 16 bytes in wire order, IPv4 as `::ffff:a.b.c.d`
/// (RFC 4291, section 2.5.5.2). In memory these are words: a program would compare and copy bytes one
/// by one.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IpKey([u32; 4]);

/// The words in front of an IPv4 address.
const V4: [u32; 3] = [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff])];

impl IpKey {
    #[inline(always)]
    pub const fn v4(ip: [u8; 4]) -> Self {
        Self([V4[0], V4[1], V4[2], u32::from_ne_bytes(ip)])
    }

    #[inline(always)]
    pub const fn v6(ip: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = ip;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    /// The 16 bytes in wire order.
    #[inline(always)]
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d] = self.0[0].to_ne_bytes();
        let [e, f, g, h] = self.0[1].to_ne_bytes();
        let [i, j, k, l] = self.0[2].to_ne_bytes();
        let [m, n, o, p] = self.0[3].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] | self.0[1] == 0 && self.0[2] == V4[2]
    }

    /// Whether it is a multicast group: `224.0.0.0/4` (RFC 1112, section 4) or `ff00::/8`
    /// (RFC 4291, section 2.7).
    #[inline(always)]
    pub const fn is_multicast(&self) -> bool {
        if self.is_v4() {
            self.0[3].to_ne_bytes()[0] & 0xf0 == 0xe0
        } else {
            self.0[0].to_ne_bytes()[0] == 0xff
        }
    }
}

/// In the order of the addresses.
impl Ord for IpKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.octets().cmp(&other.octets())
    }
}

impl PartialOrd for IpKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
