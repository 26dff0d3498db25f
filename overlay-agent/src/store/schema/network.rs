//! The record of a network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use overlay_common::net::Vni;
use serde::{Deserialize, Serialize, de};
use thiserror::Error;

use super::records::Extra;

/// `networks/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub vni: Vni,
    pub subnets: Vec<IpNet>,
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
    #[serde(flatten)]
    pub extra: Extra,
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
#[error(
    "`{}` is not a flood mode: wanted is drop, replicate or multicast=GROUP",
    .0.escape_debug()
)]
pub struct ParseFloodError(String);

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
        let refused = || ParseFloodError(text.to_owned());
        match text {
            "drop" => Ok(Self::Drop),
            "replicate" => Ok(Self::Replicate),
            other => {
                let group = other.strip_prefix("multicast=").ok_or_else(refused)?;
                let group: IpAddr = group.parse().map_err(|_| refused())?;
                if !group.is_multicast() {
                    return Err(refused());
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
