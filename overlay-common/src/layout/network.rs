//! What a network and its endpoints are.

use super::shared;
use crate::net::{IpKey, MacAddr};

/// Value of ENDPOINTS, keyed by the ifindex of the host side of the veth. 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointValue {
    pub vni: u32,
    /// Largest inner IP packet in bytes.
    pub mtu: u32,
    /// None defined yet; zero.
    pub flags: u32,
    pub mac: MacAddr,
    pub pad: [u8; 2],
    /// Zero when the endpoint has no IPv4 address.
    pub ip4: [u8; 4],
    /// Zero when the endpoint has no IPv6 address.
    pub ip6: [u8; 16],
}
shared!(EndpointValue, 40);

/// Key of NEIGHBORS. 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighborKey {
    pub vni: u32,
    pub ip: IpKey,
}
shared!(NeighborKey, 20);

/// Value of NEIGHBORS. 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeighborValue {
    pub mac: MacAddr,
    pub pad: [u8; 2],
}
shared!(NeighborValue, 8);

/// What happens to broadcast, unknown unicast and multicast of a network.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FloodMode {
    /// Dropped; ARP is still answered.
    #[default]
    Drop = 0,
}

/// Value of VNIS, keyed by VNI; a VNI without an entry is dropped. 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VniValue {
    /// None defined yet; zero.
    pub flags: u32,
    /// A [`FloodMode`] as its number.
    pub flood: u32,
    /// Index of the flood list; 0 for none.
    pub flood_list: u32,
    /// Largest inner IP packet in bytes.
    pub mtu: u32,
    /// Zero when the network has no gateway.
    pub gateway_mac: MacAddr,
    pub pad: [u8; 2],
}
shared!(VniValue, 24);

/// This host's tunnel end, fixed when the programs are loaded. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vtep {
    /// The address peers send to.
    pub ip: IpKey,
    /// UDP port in host byte order.
    pub port: u32,
    /// The collect-metadata vxlan device.
    pub fallback_ifindex: u32,
    /// Non-zero: drops are logged through `AYA_LOGS`, each reason at its 1st, 2nd, 4th, 8th … time.
    pub log_drops: u32,
    pub pad: u32,
}
shared!(Vtep, 32);
