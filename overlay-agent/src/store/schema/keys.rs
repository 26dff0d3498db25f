//! Building and reading key names. **Contract**: other versions read the same store.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_common::net::Vni;

use super::id::{EndpointId, NodeId};
use super::rules;

/// How many wake-up keys a network has. Nodes share them by [`bucket`].
pub const BUCKETS: u64 = 32;

/// The wake-up key that a node writes, 0 to 31.
pub const fn bucket(node: NodeId) -> u64 {
    node.get() % BUCKETS
}

impl EndpointPath {
    /// In the order of paths, before all endpoints of a node on a network.
    pub const fn before(node: NodeId, net: Vni) -> Self {
        Self {
            node,
            net,
            id: EndpointId::least(),
        }
    }
}

/// The key names under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Prefix and version of the layout, ends with `/`.
    root: String,
}

/// Where an endpoint's record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointPath {
    pub node: NodeId,
    pub net: Vni,
    pub id: EndpointId,
}

impl Keys {
    /// `prefix` is a [`StoreConfig`](crate::store::StoreConfig)'s.
    pub fn new(prefix: &str) -> Self {
        Self {
            root: format!("{prefix}v1/"),
        }
    }

    /// The sentinel: readable whenever the token's rights and the prefix are as they should be.
    pub fn schema(&self) -> String {
        format!("{}schema", self.root)
    }

    pub fn networks(&self) -> String {
        format!("{}networks/", self.root)
    }

    pub fn network(&self, name: &str) -> String {
        format!("{}networks/{name}", self.root)
    }

    pub fn vnis(&self) -> String {
        format!("{}vnis/", self.root)
    }

    pub fn vni(&self, net: Vni) -> String {
        format!("{}vnis/{}", self.root, hex(net))
    }

    pub fn nodes(&self) -> String {
        format!("{}nodes/", self.root)
    }

    pub fn node(&self, node: NodeId) -> String {
        format!("{}nodes/{node}", self.root)
    }

    pub fn endpoints(&self) -> String {
        format!("{}endpoints/", self.root)
    }

    pub fn endpoints_of(&self, node: NodeId) -> String {
        format!("{}endpoints/{node}/", self.root)
    }

    pub fn endpoints_on(&self, node: NodeId, net: Vni) -> String {
        format!("{}endpoints/{node}/{}/", self.root, hex(net))
    }

    pub fn endpoint(&self, path: &EndpointPath) -> String {
        format!("{}{}", self.endpoints_on(path.node, path.net), path.id)
    }

    pub fn addresses(&self) -> String {
        format!("{}addresses/", self.root)
    }

    pub fn addresses_of(&self, net: Vni) -> String {
        format!("{}addresses/{}/", self.root, hex(net))
    }

    /// 8 hex digits for IPv4, 32 for IPv6.
    pub fn address(&self, net: Vni, ip: IpAddr) -> String {
        let folder = self.addresses_of(net);
        match ip {
            IpAddr::V4(ip) => format!("{folder}{:08x}", ip.to_bits()),
            IpAddr::V6(ip) => format!("{folder}{:032x}", ip.to_bits()),
        }
    }

    pub fn indexes(&self) -> String {
        format!("{}index/", self.root)
    }

    pub fn index_of(&self, net: Vni) -> String {
        format!("{}index/{}/", self.root, hex(net))
    }

    /// The wake-up keys of a network.
    pub fn hints_of(&self, net: Vni) -> String {
        format!("{}b/", self.index_of(net))
    }

    /// The number of a wake-up key.
    pub fn bucket_of(&self, net: Vni, key: &str) -> Option<u64> {
        let number = key.strip_prefix(&self.hints_of(net))?;
        u64::from_str_radix(number, 16)
            .ok()
            .filter(|number| *number < BUCKETS)
    }

    /// The revisions of all nodes on a network.
    pub fn revisions_of(&self, net: Vni) -> String {
        format!("{}n/", self.index_of(net))
    }

    /// Those of the nodes that write one wake-up key.
    pub fn revisions_in(&self, net: Vni, bucket: u64) -> String {
        format!("{}{bucket:02x}/", self.revisions_of(net))
    }

    /// The node of a revision.
    pub fn parse_revision(&self, net: Vni, key: &str) -> Option<NodeId> {
        let (_, node) = key.strip_prefix(&self.revisions_of(net))?.split_once('/')?;
        node.parse().ok()
    }

    /// The network and the node of a revision.
    pub fn parse_any_revision(&self, key: &str) -> Option<(Vni, NodeId)> {
        let (net, _) = key.strip_prefix(&self.indexes())?.split_once('/')?;
        let net = unhex(net).ok()?;
        Some((net, self.parse_revision(net, key)?))
    }

    /// The wake-up key number `bucket` of a network.
    pub fn hint(&self, net: Vni, bucket: u64) -> String {
        format!("{}b/{bucket:02x}", self.index_of(net))
    }

    pub fn revision(&self, net: Vni, node: NodeId) -> String {
        format!("{}n/{:02x}/{node}", self.index_of(net), bucket(node))
    }

    /// The name in `networks/<name>`.
    pub fn parse_network(&self, key: &str) -> Result<String, String> {
        let name = self.below(key, "networks/")?;
        rules::check_name(name).map_err(|error| error.to_string())?;
        Ok(name.to_owned())
    }

    pub fn parse_vni(&self, key: &str) -> Result<Vni, String> {
        unhex(self.below(key, "vnis/")?)
    }

    pub fn parse_node(&self, key: &str) -> Result<NodeId, String> {
        let id = self.below(key, "nodes/")?;
        id.parse().map_err(|error| format!("{error}"))
    }

    pub fn parse_endpoint(&self, key: &str) -> Result<EndpointPath, String> {
        let mut parts = self.below(key, "endpoints/")?.split('/');
        let (Some(node), Some(net), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("the key is not endpoints/<node>/<network>/<endpoint>".to_owned());
        };
        Ok(EndpointPath {
            node: node.parse().map_err(|error| format!("{error}"))?,
            net: unhex(net)?,
            id: id.parse().map_err(|error| format!("{error}"))?,
        })
    }

    pub fn parse_address(&self, key: &str) -> Result<(Vni, IpAddr), String> {
        let Some((net, ip)) = self.below(key, "addresses/")?.split_once('/') else {
            return Err("the key is not addresses/<network>/<address>".to_owned());
        };
        let refused = || format!("`{}` is not an address in hex", ip.escape_debug());
        if !ip.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refused());
        }
        let ip = match ip.len() {
            8 => u32::from_str_radix(ip, 16).map(|bits| Ipv4Addr::from_bits(bits).into()),
            32 => u128::from_str_radix(ip, 16).map(|bits| Ipv6Addr::from_bits(bits).into()),
            _ => return Err(refused()),
        };
        Ok((unhex(net)?, ip.map_err(|_| refused())?))
    }

    fn below<'a>(&self, key: &'a str, folder: &str) -> Result<&'a str, String> {
        key.strip_prefix(&self.root)
            .and_then(|rest| rest.strip_prefix(folder))
            .ok_or_else(|| format!("the key is not under {}{folder}", self.root))
    }
}

/// A network's id in keys: 6 hex digits.
fn hex(net: Vni) -> String {
    format!("{:06x}", net.get())
}

fn unhex(text: &str) -> Result<Vni, String> {
    let digits = text.len() == 6 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits
        .then(|| u32::from_str_radix(text, 16).ok().and_then(Vni::new))
        .flatten()
        .ok_or_else(|| {
            format!(
                "`{}` is not a network id (6 hex digits, not 0)",
                text.escape_debug()
            )
        })
}
