//! What a record has to obey, whoever wrote it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_common::net::{MacAddr, Vni};
use thiserror::Error;

use super::network::{FloodMode, NetworkRecord, gateway_mac};
use super::records::{EndpointRecord, NodeRecord};
use super::subnets;

/// Longest name of a network or node.
pub const MAX_NAME: usize = 63;
/// Fits one transaction next to what else a new network needs.
pub const MAX_SUBNETS: usize = 16;
/// Addresses that a network keeps from its endpoints; these fit in, too.
pub const MAX_RESERVED: usize = 8;
/// Parts of its subnets that a network keeps from its endpoints.
pub const MAX_EXCLUDED: usize = 64;
/// Addresses that are freed in one transaction, with the check that no endpoint has them.
pub const MAX_TOGETHER: usize = 32;
/// Of one endpoint, besides its own addresses.
pub const MAX_ALLOW_IPS: usize = 64;
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
    #[error("gateways {0} and {1} are in one subnet, which needs one")]
    TwoGateways(IpAddr, IpAddr),
    #[error("range {0} is in none of the network's subnets")]
    RangeOutside(IpNet),
    #[error("ranges {0} and {1} are in one subnet, which has one at most")]
    TwoRanges(IpNet, IpNet),
    #[error("{0} to exclude is in none of the network's subnets")]
    ExcludedOutside(IpNet),
    #[error("{count} exclusions are too many: a network has at most {MAX_EXCLUDED}")]
    TooManyExcluded { count: usize },
    #[error("nothing is left to give out of {0}: exclude less, or make it larger")]
    AllExcluded(IpNet),
    #[error("{count} reserved addresses are too many: a network has at most {MAX_RESERVED}")]
    TooManyReserved { count: usize },
    #[error("MTU {mtu} is not usable: wanted is {least} to {MAX_MTU}")]
    Mtu { mtu: u16, least: u16 },
    #[error("{0} is not a multicast group")]
    Group(IpAddr),
    #[error(
        "group {0} does not leave a link, or is reserved there: choose one as 239.1.1.1 or ff05::1:1"
    )]
    LinkGroup(IpAddr),
    #[error("0 packets per second is no flood rate: `--flood drop` floods nothing")]
    FloodRate,
    #[error("a node needs a VTEP address")]
    NoVtep,
    #[error("{0} cannot be a VTEP: a unicast address of the underlay is wanted")]
    Vtep(IpAddr),
    #[error("0 is not a UDP port")]
    Port,
    #[error("{0} cannot be an interface's MAC address: it is multicast or all zeros")]
    Mac(MacAddr),
    #[error("MAC {0} is that of the network's gateway: choose another --mac, or none")]
    GatewayMac(MacAddr),
    #[error("{0} cannot be allowed to an endpoint: no host sends from it")]
    AllowIp(IpNet),
    #[error("{0} has host bits set: {net} is meant", net = .0.trunc())]
    AllowBits(IpNet),
    #[error("{count} allowed addresses are too many: an endpoint may have {MAX_ALLOW_IPS}")]
    TooManyAllowed { count: usize },
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
    check_gateways(record)?;
    check_ranges(record)?;
    check_excluded(record)?;
    if let Some(mtu) = record.mtu {
        let least = least_mtu(&record.subnets);
        if !(least..=MAX_MTU).contains(&mtu) {
            return Err(RuleError::Mtu { mtu, least });
        }
    }
    if record.options.flood_rate == Some(0) {
        return Err(RuleError::FloodRate);
    }
    match record.flood {
        FloodMode::Drop | FloodMode::Replicate => Ok(()),
        FloodMode::Multicast(group) => check_group(group),
    }
}

/// Smallest MTU in bytes that the families of a network with these subnets work with.
pub fn least_mtu(subnets: &[IpNet]) -> u16 {
    if subnets.iter().any(|subnet| subnet.addr().is_ipv6()) {
        MIN_MTU6
    } else {
        MIN_MTU4
    }
}

/// The gateways of a network: in its subnets, one in each at most.
fn check_gateways(record: &NetworkRecord) -> Result<(), RuleError> {
    let mut seen: Vec<(IpNet, IpAddr)> = Vec::new();
    for gateway in record.gateways() {
        let Some(subnet) = record.subnet_of(gateway) else {
            return Err(RuleError::GatewayOutside(gateway));
        };
        if subnets::edge(&subnet, gateway).is_some() {
            return Err(RuleError::GatewayReserved(gateway));
        }
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == subnet) {
            return Err(RuleError::TwoGateways(*first, gateway));
        }
        seen.push((subnet, gateway));
    }
    Ok(())
}

/// The ranges of a network: in its subnets, one in each at most.
fn check_ranges(record: &NetworkRecord) -> Result<(), RuleError> {
    let mut seen: Vec<(IpNet, IpNet)> = Vec::new();
    for range in &record.options.ranges {
        if range.addr() != range.network() {
            return Err(RuleError::HostBits { subnet: *range });
        }
        let subnets = record.subnets.iter();
        let Some(subnet) = subnets.copied().find(|subnet| subnet.contains(range)) else {
            return Err(RuleError::RangeOutside(*range));
        };
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == subnet) {
            return Err(RuleError::TwoRanges(*first, *range));
        }
        seen.push((subnet, *range));
    }
    Ok(())
}

/// What a network keeps from its endpoints: parts of its subnets, and not all of what it gives out.
fn check_excluded(record: &NetworkRecord) -> Result<(), RuleError> {
    let excluded = &record.options.exclude;
    if excluded.len() > MAX_EXCLUDED {
        let count = excluded.len();
        return Err(RuleError::TooManyExcluded { count });
    }
    for part in excluded {
        if part.addr() != part.network() {
            return Err(RuleError::HostBits { subnet: *part });
        }
        if !record.subnets.iter().any(|subnet| subnet.contains(part)) {
            return Err(RuleError::ExcludedOutside(*part));
        }
    }
    for subnet in &record.subnets {
        let range = record.range_of(*subnet);
        if subnets::without(range, excluded).is_empty() {
            return Err(RuleError::AllExcluded(range));
        }
    }
    Ok(())
}

/// Refuses groups that routers do not forward (RFC 5771, section 4; RFC 4291, section 2.7) and
/// that the hosts' own protocols use.
fn check_group(group: IpAddr) -> Result<(), RuleError> {
    if !group.is_multicast() {
        return Err(RuleError::Group(group));
    }
    let on_link = match group {
        IpAddr::V4(ip) => matches!(ip.octets(), [224, 0, 0, _]),
        // Scopes 0 to 2: reserved, interface and link.
        IpAddr::V6(ip) => ip.segments()[0] & 0xf <= 2,
    };
    if on_link {
        return Err(RuleError::LinkGroup(group));
    }
    Ok(())
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

/// Checks an endpoint of the network `net`.
pub fn check_endpoint(net: Vni, record: &EndpointRecord) -> Result<(), RuleError> {
    if record.mac.is_multicast() || record.mac.is_zero() {
        return Err(RuleError::Mac(record.mac));
    }
    if record.mac == gateway_mac(net) {
        return Err(RuleError::GatewayMac(record.mac));
    }
    let count = record.allow_ips.len();
    if count > MAX_ALLOW_IPS {
        return Err(RuleError::TooManyAllowed { count });
    }
    record.allow_ips.iter().try_for_each(check_allowed)
}

/// A prefix may be the default one: a router sends from anywhere.
fn check_allowed(prefix: &IpNet) -> Result<(), RuleError> {
    let first = prefix.network();
    if prefix.addr() != first {
        return Err(RuleError::AllowBits(*prefix));
    }
    let single = prefix.prefix_len() == prefix.max_prefix_len();
    let broadcast = matches!(first, IpAddr::V4(ip) if ip.is_broadcast());
    if first.is_multicast()
        || first.is_loopback()
        || broadcast
        || (single && first.is_unspecified())
    {
        return Err(RuleError::AllowIp(*prefix));
    }
    Ok(())
}
