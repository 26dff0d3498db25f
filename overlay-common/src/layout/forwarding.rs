//! Where a frame goes: FDB, peers, tunnels.

use core::cmp::Ordering;

use super::shared;
use crate::net::MacAddr;

/// Index of a peer in TUNNELS. 0 is this host itself.
pub type PeerIndex = u32;

/// Key of FDB. 12 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdbKey {
    pub vni: u32,
    /// The MAC's bytes and two of zero, as words: a program would write it byte by byte, and the
    /// kernel, which hashes words, would have to wait for each.
    mac: [u32; 2],
}

/// By network, then in the order of the addresses.
impl Ord for FdbKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.vni, self.mac()).cmp(&(other.vni, other.mac()))
    }
}

impl PartialOrd for FdbKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FdbKey {
    #[inline(always)]
    pub const fn new(vni: u32, mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self {
            vni,
            mac: [
                u32::from_ne_bytes([a, b, c, d]),
                u32::from_ne_bytes([e, f, 0, 0]),
            ],
        }
    }

    #[inline(always)]
    pub const fn mac(&self) -> MacAddr {
        let [a, b, c, d] = self.mac[0].to_ne_bytes();
        let [e, f, ..] = self.mac[1].to_ne_bytes();
        MacAddr([a, b, c, d, e, f])
    }
}
shared!(FdbKey, 12);

/// Bits of [`FdbValue::flags`].
pub mod fdb_flags {
    /// The local endpoint forwards packets of others: super-packets reach it through the kernel,
    /// which leaves their segmentation state right for a second journey.
    pub const FORWARDS: u32 = 1;
    /// The network's anycast gateway, which is nobody's interface.
    pub const GATEWAY: u32 = 2;
}

/// Value of FDB: one lookup decides a unicast frame and where it is counted. 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbValue {
    /// Host side of a local endpoint's veth; 0 for an endpoint of a peer.
    pub ifindex: u32,
    /// 0 for a local endpoint.
    pub peer: PeerIndex,
    /// Slot in STATS of the pair (VNI, peer).
    pub stats: u32,
    /// Grows whenever the agent moves the endpoint, so that an audit can tell a stale entry.
    pub generation: u32,
    /// The key's VNI once more: an element of the map may be reused under a reader, and a frame
    /// must not leave its VNI even then.
    pub vni: u32,
    /// [`fdb_flags`].
    pub flags: u32,
}
shared!(FdbValue, 24);

/// Value of PEERS, the allow-list of outer source addresses. 4 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerValue {
    pub index: PeerIndex,
}
shared!(PeerValue, 4);

/// Bits of [`TunnelValue::flags`].
pub mod tunnel_flags {
    /// The header carries the next hop's MAC; without it the kernel resolves the neighbour.
    pub const RESOLVED: u32 = 1;
    /// The outer headers are IPv6's, 70 bytes.
    pub const IPV6: u32 = 2;
    /// Outer UDP checksums are wanted: the kernel's vxlan device encapsulates.
    pub const UDP_CHECKSUM: u32 = 4;
    /// The inner DSCP is copied to the outer header; without it the template's stays.
    pub const COPY_DSCP: u32 = 8;
}

/// Room for the outer headers: Ethernet + IPv6 + UDP + VXLAN is 70, rounded up.
pub const TUNNEL_HEADER_MAX: usize = 72;

/// Value of TUNNELS: the outer headers of a peer, made once by the agent
/// ([`crate::packet::encap::Template`]). 88 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelValue {
    pub header: [u8; TUNNEL_HEADER_MAX],
    /// Bytes of `header` in use: 50 on IPv4, 70 on IPv6, 0 when no route to the peer is known.
    pub header_len: u32,
    /// Egress device on the underlay.
    pub ifindex: u32,
    /// [`tunnel_flags`].
    pub flags: u32,
    /// Largest outer IP packet in bytes.
    pub mtu: u32,
}
shared!(TunnelValue, 88);

impl TunnelValue {
    pub const NONE: Self = Self {
        header: [0; TUNNEL_HEADER_MAX],
        header_len: 0,
        ifindex: 0,
        flags: 0,
        mtu: 0,
    };
}
