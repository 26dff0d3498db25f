//! The records of nodes, endpoints, addresses and indexes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use overlay_common::net::MacAddr;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::{EndpointId, NodeId, Nonce};

/// Fields that this version does not know, kept when a record is written again.
pub type Extra = Map<String, Value>;

/// `schema`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub version: u32,
}

impl Schema {
    /// The layout that this crate reads and writes.
    pub const CURRENT: Self = Self { version: 1 };

    /// Whether records may be what this crate does not understand. Those of an earlier layout it does.
    pub const fn is_newer(&self) -> bool {
        self.version > Self::CURRENT.version
    }
}

/// `nodes/<node>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub name: String,
    /// Underlay addresses; the first is the one to send to.
    pub vteps: Vec<IpAddr>,
    /// UDP port of VXLAN.
    pub port: u16,
    /// Of the agent; empty without one.
    #[serde(default)]
    pub version: String,
    /// The newest layout of the store that the agent knows; 0 without an agent, and of an early one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub schema: u32,
    /// `false` for a node that was added by hand.
    #[serde(default)]
    pub agent: bool,
    /// When the agent was stopped in an orderly way, so that its data path goes on without it. Unix time in
    /// seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<u64>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `endpoints/<node>/<net>/<endpoint>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    #[serde(default)]
    pub ip4: Option<Ipv4Addr>,
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    pub mac: MacAddr,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub container: Option<String>,
    /// Other names that it goes by on the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What it may send from besides its own addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_ips: Vec<IpNet>,
    /// It forwards packets of others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwarding: bool,
    #[serde(flatten)]
    pub extra: Extra,
}

impl EndpointRecord {
    /// The addresses of both families that are there.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ip4 = self.ip4.map(IpAddr::V4);
        ip4.into_iter().chain(self.ip6.map(IpAddr::V6))
    }

    /// The single addresses among [`EndpointRecord::allow_ips`].
    pub fn allowed_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let single = |net: &&IpNet| net.prefix_len() == net.max_prefix_len();
        self.allow_ips.iter().filter(single).map(IpNet::addr)
    }

    /// Whether it forwards: said so, or implied by a whole prefix that it may send from.
    pub fn forwards(&self) -> bool {
        self.forwarding || self.allowed_addresses().count() < self.allow_ips.len()
    }
}

/// What stands in [`AddressRecord::endpoint`] for a network's gateway, whose node is all zeros.
pub const GATEWAY_HOLDER: &str = "gateway";

/// The same for an address that the network keeps from its endpoints.
pub const RESERVED_HOLDER: &str = "reserved";

/// `addresses/<net>/<address>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// An endpoint id, [`GATEWAY_HOLDER`] or [`RESERVED_HOLDER`].
    pub endpoint: String,
    pub node: NodeId,
    pub nonce: Nonce,
    /// Unix time in seconds.
    pub since: u64,
    /// Whether it was chosen while the store was away: one that the store was asked for goes before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// When it was let go: nobody has it, and for [`COOL_DOWN`] nobody else gets it. Earlier versions
    /// take it for held until it is deleted. Unix time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<u64>,
    /// Who had it, by the name that its user gave it; only of a released one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// How long a released address is kept from others, while there is another one for them: what their peers still
/// remember of its last holder is gone by then.
pub const COOL_DOWN: Duration = Duration::from_secs(60);

impl AddressRecord {
    /// The claim of a network's gateway, made with the network.
    pub fn gateway() -> Self {
        Self::nobodys(GATEWAY_HOLDER)
    }

    /// The claim of an address that no endpoint may have, made with the network.
    pub fn reserved() -> Self {
        Self::nobodys(RESERVED_HOLDER)
    }

    fn nobodys(holder: &str) -> Self {
        Self {
            endpoint: holder.to_owned(),
            node: NodeId::new(0),
            nonce: Nonce::random(),
            since: unix_now(),
            offline: false,
            released: None,
            name: None,
            extra: Extra::new(),
        }
    }

    /// A new claim; its nonce is its own.
    pub fn claim(owner: &Owner) -> Self {
        Self {
            endpoint: owner.endpoint.to_string(),
            node: owner.node,
            nonce: Nonce::random(),
            since: unix_now(),
            offline: false,
            released: None,
            name: None,
            extra: Extra::new(),
        }
    }

    /// The same claim, let go now.
    #[must_use]
    pub fn let_go(self, name: Option<&str>) -> Self {
        Self {
            released: Some(unix_now()),
            name: name.map(str::to_owned),
            ..self
        }
    }

    pub fn is_held_by(&self, owner: &Owner) -> bool {
        self.released.is_none() && self.was_held_by(owner)
    }

    /// Whether this is or was the owner's claim.
    pub fn was_held_by(&self, owner: &Owner) -> bool {
        self.node == owner.node && self.endpoint == owner.endpoint.to_string()
    }

    /// Whether no endpoint has it by its nature: a gateway's, or one that is kept from endpoints.
    pub fn is_nobodys(&self) -> bool {
        [GATEWAY_HOLDER, RESERVED_HOLDER].contains(&self.endpoint.as_str())
    }
}

/// Seconds since 1970; 0 on a clock before it.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub node: NodeId,
    pub endpoint: EndpointId,
}

/// `index/<net>/n/<bucket>/<node>`: how often that node's endpoints on that network changed, and
/// how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Never repeats: Consul wakes nobody when an identical value is written.
    pub rev: u64,
    pub endpoints: u64,
}

impl Revision {
    /// The value to store in the place of another one, whose unknown fields are kept. There are many
    /// revisions in memory, so they have no room for these.
    pub fn encode_over(self, before: Option<&[u8]>) -> Vec<u8> {
        let before = before.and_then(|value| serde_json::from_slice(value).ok());
        let mut fields: Extra = before.unwrap_or_default();
        fields.insert("rev".to_owned(), self.rev.into());
        fields.insert("endpoints".to_owned(), self.endpoints.into());
        encode(&fields)
    }
}

/// `index/<net>/b/<bucket>`: which endpoint changed last. A hint, not data: whoever may write it
/// can wake others in vain and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    pub node: NodeId,
    pub endpoint: EndpointId,
    pub rev: u64,
}

impl Hint {
    /// The value of a bucket that no endpoint has used yet.
    pub const NONE: &str = "\"\"";

    /// The value to store, a JSON string.
    pub fn encode(&self) -> Vec<u8> {
        format!("\"{} {} {}\"", self.node, self.endpoint, self.rev).into_bytes()
    }

    /// `None` for the empty hint and for one that is not understood.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let text: String = serde_json::from_slice(value).ok()?;
        let mut parts = text.split(' ');
        let hint = Self {
            node: parts.next()?.parse().ok()?,
            endpoint: parts.next()?.parse().ok()?,
            rev: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(hint)
    }
}

/// Adds to `extra` what another version has written beside the fields that are known here.
pub fn keep_extra(extra: &mut Extra, before: &Extra) {
    for (field, value) in before {
        extra.entry(field.as_str()).or_insert_with(|| value.clone());
    }
}

/// A record as it is stored.
///
/// Cannot fail for the types above: their maps have strings as keys. Should one of a caller's own
/// do, the value is `null`, which every reader reports as corrupt.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_else(|_| b"null".to_vec())
}
