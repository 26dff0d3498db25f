//! The record of a network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use overlay_common::net::{MacAddr, Vni};
use serde::{Deserialize, Serialize, de};
use thiserror::Error;

use super::records::Extra;

/// `networks/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub vni: Vni,
    pub subnets: Vec<IpNet>,
    /// Of one subnet; those of the others are in the options.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Of the endpoints' interfaces; without it each host derives it from its underlay.
    #[serde(default)]
    pub mtu: Option<u16>,
    #[serde(default)]
    pub flood: FloodMode,
    #[serde(default)]
    pub options: NetworkOptions,
    /// Fields of later versions, kept when the record is written again.
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOptions {
    /// No way out of the network.
    #[serde(default)]
    pub internal: bool,
    /// Frames with a VLAN tag are carried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vlan: bool,
    /// Packets per second that the endpoints of one host may flood, not 0; without it
    /// [`DEFAULT_FLOOD_RATE`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub flood_rate: Option<u32>,
    /// Besides [`NetworkRecord::gateway`]; at most one for each subnet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gateways: Vec<IpAddr>,
    /// Where addresses that nobody named are taken from, at most one part of each subnet; a subnet
    /// without one is taken from as a whole.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ranges: Vec<IpNet>,
    /// Parts of the subnets that no endpoint gets an address of, asked for or not.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exclude: Vec<IpNet>,
    /// Id of the Docker network that it was made as, known on the host where that was.
    #[serde(default, skip_serializing_if = "is_default")]
    pub docker: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// What [`NetworkOptions::flood_rate`] is when nobody has said.
pub const DEFAULT_FLOOD_RATE: u32 = 1000;

impl NetworkRecord {
    /// At most one for each subnet; none in networks of earlier versions.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let others = self.options.gateways.iter().copied();
        self.gateway.into_iter().chain(others)
    }

    pub fn subnet_of(&self, ip: IpAddr) -> Option<IpNet> {
        self.subnets
            .iter()
            .find(|subnet| subnet.contains(&ip))
            .copied()
    }

    /// Gateway of the subnet that `ip` is in.
    pub fn gateway_of(&self, ip: IpAddr) -> Option<IpAddr> {
        let subnet = self.subnet_of(ip)?;
        self.gateways().find(|gateway| subnet.contains(gateway))
    }

    /// The part of a subnet that addresses are taken from.
    pub fn range_of(&self, subnet: IpNet) -> IpNet {
        let ranges = self.options.ranges.iter().copied();
        let mut inside = ranges.filter(|range| subnet.contains(range));
        inside.next().unwrap_or(subnet)
    }

    pub fn flood_rate(&self) -> u32 {
        self.options.flood_rate.unwrap_or(DEFAULT_FLOOD_RATE)
    }

    pub fn has_v4(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.addr().is_ipv4())
    }

    pub fn has_v6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.addr().is_ipv6())
    }
}

/// MAC of a network's gateways.
pub fn gateway_mac(net: Vni) -> MacAddr {
    MacAddr::of_gateway(net.get())
}

/// Left out of what is written, so that earlier versions' records stay as they are.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What becomes of broadcast, multicast and unknown unicast. ARP and neighbour discovery are
/// answered in any mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FloodMode {
    #[default]
    Drop,
    /// One copy for each peer.
    Replicate,
    /// One copy to a group of the underlay (RFC 7348, section 4.2).
    Multicast(IpAddr),
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseFloodError {
    #[error(
        "`{}` is not a flood mode: wanted is drop, replicate or multicast=GROUP",
        .0.escape_debug()
    )]
    Mode(String),
    #[error("{0} is not a multicast group: wanted is one as 239.1.1.1 or ff05::1:1")]
    Group(IpAddr),
}

impl fmt::Display for FloodMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("drop"),
            Self::Replicate => f.write_str("replicate"),
            Self::Multicast(group) => write!(f, "multicast={group}"),
        }
    }
}

impl FromStr for FloodMode {
    type Err = ParseFloodError;

    fn from_str(text: &str) -> Result<Self, ParseFloodError> {
        let refused = || ParseFloodError::Mode(text.to_owned());
        match text {
            "drop" => Ok(Self::Drop),
            "replicate" => Ok(Self::Replicate),
            other => {
                let group = other.strip_prefix("multicast=").ok_or_else(refused)?;
                let group: IpAddr = group.parse().map_err(|_| refused())?;
                if !group.is_multicast() {
                    return Err(ParseFloodError::Group(group));
                }
                Ok(Self::Multicast(group))
            }
        }
    }
}

impl Serialize for FloodMode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FloodMode {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}
