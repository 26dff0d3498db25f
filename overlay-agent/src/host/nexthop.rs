//! How each peer is reached: route, egress device and the next hop's MAC, kept up to date by
//! what the kernel announces. The programs write the outer Ethernet header themselves, so
//! nobody but the agent keeps these neighbours alive and notices when one changes.

mod managed;
mod mirror;
mod query;
mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;

use overlay_common::net::MacAddr;

pub use managed::release_all;
pub use watch::NextHopWatcher;

/// The way to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Egress device.
    pub ifindex: u32,
    /// MAC of the egress device.
    pub source_mac: MacAddr,
    /// Outer source address.
    pub source_ip: IpAddr,
    /// Largest outer IP packet in bytes.
    pub mtu: u32,
    /// MAC of the next hop; `None` while it is not known.
    pub mac: Option<MacAddr>,
}

/// The way to each peer; a peer without a route is absent.
pub type NextHops = BTreeMap<IpAddr, NextHop>;
