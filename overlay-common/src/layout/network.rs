//! What a network and its endpoints are.

use super::{PeerIndex, shared};
use crate::net::{IpKey, MacAddr};

/// Bits of [`EndpointValue::flags`].
pub mod endpoint_flags {
    /// The network floods: what is not unicast is not dropped at once.
    pub const FLOODS: u32 = 1;
    /// The network carries frames with a VLAN tag.
    pub const VLAN: u32 = 2;
    /// ALLOWED holds addresses of this endpoint besides its own.
    pub const ALLOWED: u32 = 4;
}

/// Value of ENDPOINTS, keyed by the ifindex of the host side of the veth. 60 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointValue {
    pub vni: u32,
    /// Largest inner IP packet in bytes.
    pub mtu: u32,
    /// [`endpoint_flags`].
    pub flags: u32,
    pub mac: MacAddr,
    pub pad: [u8; 2],
    /// Zero when the endpoint has no IPv4 address.
    pub ip4: [u8; 4],
    /// Gateway of the subnet of `ip4`; zero for none.
    pub gateway4: [u8; 4],
    /// Zero when the endpoint has no IPv6 address.
    pub ip6: [u8; 16],
    /// Gateway of the subnet of `ip6`; zero for none.
    pub gateway6: [u8; 16],
}
shared!(EndpointValue, 60);

/// Key of ALLOWED, a longest-prefix-match table of what an endpoint may send from besides its own
/// addresses: the part of the key behind the prefix length. 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllowedKey {
    /// Of the host side of the endpoint's veth; always matched whole (32 bits).
    pub ifindex: u32,
    /// IPv4 prefixes are 96 bits longer than they are written.
    pub ip: IpKey,
}
shared!(AllowedKey, 20);

/// Key of NEIGHBORS. 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighborKey {
    pub vni: u32,
    pub ip: IpKey,
}
shared!(NeighborKey, 20);

/// Bits of [`NeighborValue::flags`].
pub mod neighbor_flags {
    /// A gateway: neighbour advertisements say so (RFC 4861, section 4.4).
    pub const ROUTER: u16 = 1;
}

/// Value of NEIGHBORS. 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeighborValue {
    pub mac: MacAddr,
    /// [`neighbor_flags`].
    pub flags: u16,
}
shared!(NeighborValue, 8);

/// What happens to broadcast, unknown unicast and multicast of a network.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FloodMode {
    /// Dropped; ARP and neighbour discovery are still answered.
    #[default]
    Drop = 0,
    /// One copy for each peer of the network (head-end replication).
    Replicate = 1,
    /// One copy to the network's group on the underlay (RFC 7348, section 4.2).
    Multicast = 2,
}

impl FloodMode {
    /// A number that this version does not know means nothing but a drop.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Replicate,
            2 => Self::Multicast,
            _ => Self::Drop,
        }
    }
}

/// Bits of [`VniValue::flags`].
pub mod vni_flags {
    /// There is no way out of the network.
    pub const INTERNAL: u32 = 1;
    /// Frames with a VLAN tag are carried.
    pub const VLAN: u32 = 2;
}

/// Value of VNIS, keyed by VNI; a VNI without an entry is dropped. 44 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VniValue {
    /// [`vni_flags`].
    pub flags: u32,
    /// A [`FloodMode`] as its number.
    pub flood: u32,
    /// Frames per second that the endpoints of this host may flood, of the whole network.
    pub flood_rate: u32,
    /// Index in TUNNELS of the network's group; 0 for none.
    pub flood_tunnel: u32,
    /// Largest inner IP packet in bytes.
    pub mtu: u32,
    /// Zero when the network has no gateway.
    pub gateway_mac: MacAddr,
    pub pad: [u8; 2],
    /// The underlay's multicast group of flood mode multicast; zero for none.
    pub group: IpKey,
}
shared!(VniValue, 44);

/// Most peers, and most endpoints of one host, that a network may flood to.
pub const FLOOD_MAX: usize = 256;

/// A peer that gets a copy. 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FloodPeer {
    pub peer: PeerIndex,
    /// Slot in STATS of the pair (VNI, peer).
    pub stats: u32,
}
shared!(FloodPeer, 8);

/// Value of FLOODS, keyed by VNI, there for networks that flood. 3088 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FloodValue {
    /// Entries of `peers` in use.
    pub peer_count: u32,
    /// Entries of `locals` in use.
    pub local_count: u32,
    /// Slot in STATS of (VNI, 0): frames between endpoints of this host.
    pub local_stats: u32,
    pub pad: u32,
    /// Who gets a copy in mode replicate.
    pub peers: [FloodPeer; FLOOD_MAX],
    /// Host sides of the veths of this host's endpoints on the network.
    pub locals: [u32; FLOOD_MAX],
}
shared!(FloodValue, 3088);

/// This host's tunnel ends, the only entry of VTEP; all zero until the agent has written it. 64
/// bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vtep {
    /// The IPv4 address that peers send to; zero for none.
    pub ip4: IpKey,
    /// The IPv6 address that peers send to; zero for none.
    pub ip6: IpKey,
    /// UDP port in host byte order.
    pub port: u32,
    /// The collect-metadata vxlan device.
    pub fallback_ifindex: u32,
    /// Non-zero: drops are logged through `AYA_LOGS`, each reason at its 1st, 2nd, 4th, 8th … time.
    pub log_drops: u32,
    /// Packet mark of what the programs hand to the fallback device: how `to_underlay` tells it
    /// from what a process of the host has forged. Random.
    pub mark: u32,
    /// [`vtep_flags`].
    pub flags: u32,
    /// What [`super::Handover`] begins with. Random; zero: nothing is handed over.
    pub cookie: u32,
    /// The underlay device's own, by which XDP tells what is for this host.
    pub mac: MacAddr,
    pub pad: [u8; 2],
}
shared!(Vtep, 64);

/// Bits of [`Vtep::flags`].
pub mod vtep_flags {
    /// `underlay_filter` takes the outer headers off and hands on what it knows: [`super::Handover`].
    pub const XDP_DECAP: u32 = 1;
}
