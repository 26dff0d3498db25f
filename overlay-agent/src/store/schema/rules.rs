//! What a record has to obey, whoever wrote it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_common::net::MacAddr;
use thiserror::Error;

use super::network::{FloodMode, NetworkRecord};
use super::records::{EndpointRecord, NodeRecord};
use super::subnets;

/// Longest name of a network or node.
pub const MAX_NAME: usize = 63;
/// Fits one transaction next to what else a new network needs.
pub const MAX_SUBNETS: usize = 16;
/// RFC 791: every host takes 576 bytes.
const MIN_MTU4: u16 = 576;
/// RFC 8200, section 5.
const MIN_MTU6: u16 = 1280;
/// 65535 less the 50 bytes of a VXLAN header on IPv4.
const MAX_MTU: u16 = 65_485;

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    #[error(
        "`{}` is not usable as a name: wanted are 1 to {MAX_NAME} letters, digits, `_`, `.`, `-`, \
         the first a letter or digit", .0.escape_debug()
    )]
    Name(String),
    #[error("a network needs a subnet")]
    NoSubnet,
    #[error("{0} subnets are too many: a network has at most {MAX_SUBNETS}")]
    TooManySubnets(usize),
    #[error("subnet {subnet} has host bits set: the network is {}", .subnet.trunc())]
    HostBits { subnet: IpNet },
    #[error("subnet {0} is too small: wanted is /30 or larger for IPv4, /126 or larger for IPv6")]
    TooSmall(IpNet),
    #[error("subnet {0} is too large: wanted is /8 or smaller for IPv4, /32 or smaller for IPv6")]
    TooLarge(IpNet),
    #[error("subnet {0} is not for hosts: it is multicast, loopback, link-local or reserved")]
    NotForHosts(IpNet),
    #[error("subnets {0} and {1} overlap")]
    Overlap(IpNet, IpNet),
    #[error("gateway {0} is in none of the network's subnets")]
    GatewayOutside(IpAddr),
    #[error("gateway {0} is the first or last address of its subnet, which no host may have")]
    GatewayReserved(IpAddr),
    #[error("MTU {mtu} is not usable: wanted is {least} to {MAX_MTU}")]
    Mtu { mtu: u16, least: u16 },
    #[error("{0} is not a multicast group")]
    Group(IpAddr),
    #[error("a node needs a VTEP address")]
    NoVtep,
    #[error("{0} cannot be a VTEP: a unicast address of the underlay is wanted")]
    Vtep(IpAddr),
    #[error("0 is not a UDP port")]
    Port,
    #[error("{0} cannot be an interface's MAC address: it is multicast or all zeros")]
    Mac(MacAddr),
}

/// Checks the name of a network or node: Docker's pattern, with a limit. It is one part of a key.
pub fn check_name(name: &str) -> Result<(), RuleError> {
    let mut bytes = name.bytes();
    let usable = name.len() <= MAX_NAME
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if usable {
        Ok(())
    } else {
        Err(RuleError::Name(name.to_owned()))
    }
}

pub fn check_network(record: &NetworkRecord) -> Result<(), RuleError> {
    check_subnets(&record.subnets)?;
    if let Some(gateway) = record.gateway {
        let Some(subnet) = record.subnets.iter().find(|s| s.contains(&gateway)) else {
            return Err(RuleError::GatewayOutside(gateway));
        };
        if subnets::edge(subnet, gateway).is_some() {
            return Err(RuleError::GatewayReserved(gateway));
        }
    }
    if let Some(mtu) = record.mtu {
        let has_v6 = record.subnets.iter().any(|s| s.addr().is_ipv6());
        let least = if has_v6 { MIN_MTU6 } else { MIN_MTU4 };
        if !(least..=MAX_MTU).contains(&mtu) {
            return Err(RuleError::Mtu { mtu, least });
        }
    }
    match record.flood {
        FloodMode::Multicast(group) if !group.is_multicast() => Err(RuleError::Group(group)),
        FloodMode::Drop | FloodMode::Replicate | FloodMode::Multicast(_) => Ok(()),
    }
}

/// Checks the subnets of one network. Other networks may use the same: they are apart.
pub fn check_subnets(all: &[IpNet]) -> Result<(), RuleError> {
    if all.is_empty() {
        return Err(RuleError::NoSubnet);
    }
    if all.len() > MAX_SUBNETS {
        return Err(RuleError::TooManySubnets(all.len()));
    }
    for (at, subnet) in all.iter().enumerate() {
        check_subnet(subnet)?;
        if let Some(other) = all[..at].iter().find(|o| subnets::overlap(o, subnet)) {
            return Err(RuleError::Overlap(*other, *subnet));
        }
    }
    Ok(())
}

fn check_subnet(subnet: &IpNet) -> Result<(), RuleError> {
    if subnet.addr() != subnet.network() {
        return Err(RuleError::HostBits { subnet: *subnet });
    }
    let (largest, smallest) = match subnet {
        IpNet::V4(_) => (8, 30),
        IpNet::V6(_) => (32, 126),
    };
    if subnet.prefix_len() > smallest {
        return Err(RuleError::TooSmall(*subnet));
    }
    if subnet.prefix_len() < largest {
        return Err(RuleError::TooLarge(*subnet));
    }
    let for_hosts = match subnet.network() {
        IpAddr::V4(ip) => {
            ip.octets()[0] != 0
                && !ip.is_loopback()
                && !ip.is_link_local()
                // Multicast and the reserved class E.
                && ip < Ipv4Addr::new(224, 0, 0, 0)
        }
        IpAddr::V6(ip) => {
            !ip.is_multicast()
                && !ip.is_unicast_link_local()
                // ::/32 holds the unspecified and loopback addresses and embedded IPv4.
                && (ip.segments()[0], ip.segments()[1]) != (0, 0)
        }
    };
    if for_hosts {
        Ok(())
    } else {
        Err(RuleError::NotForHosts(*subnet))
    }
}

pub fn check_node(record: &NodeRecord) -> Result<(), RuleError> {
    check_name(&record.name)?;
    if record.vteps.is_empty() {
        return Err(RuleError::NoVtep);
    }
    if let Some(ip) = record.vteps.iter().find(|ip| !is_vtep(ip)) {
        return Err(RuleError::Vtep(*ip));
    }
    if record.port == 0 {
        return Err(RuleError::Port);
    }
    Ok(())
}

fn is_vtep(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || broadcast)
}

pub fn check_endpoint(record: &EndpointRecord) -> Result<(), RuleError> {
    if record.mac.is_multicast() || record.mac.is_zero() {
        return Err(RuleError::Mac(record.mac));
    }
    Ok(())
}
