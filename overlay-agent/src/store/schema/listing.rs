//! From what a folder holds to typed items, each bad key reported alone.

use std::collections::BTreeMap;
use std::fmt;

use overlay_common::net::Vni;
use serde::de::DeserializeOwned;

use super::id::NodeId;
use super::keys::{EndpointPath, Keys};
use super::network::NetworkRecord;
use super::records::{EndpointRecord, NodeRecord};
use super::rules::{self, RuleError};
use crate::store::client::{KvPair, SessionId};

/// A key that was skipped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BadKey {
    pub key: String,
    pub why: String,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is whatever somebody wrote: keep it from driving a terminal.
        write!(f, "`{}`: {}", self.key.escape_debug(), self.why)
    }
}

/// The good items of a folder in the order of their keys, and the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    pub items: Vec<T>,
    pub bad: Vec<BadKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub name: String,
    pub record: NetworkRecord,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub record: NodeRecord,
    /// The live session of the node's agent.
    pub session: Option<SessionId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub path: EndpointPath,
    pub record: EndpointRecord,
}

/// Reads one value.
pub fn decode<T: DeserializeOwned>(pair: &KvPair) -> Result<T, BadKey> {
    serde_json::from_slice(&pair.value).map_err(|error| BadKey {
        key: pair.key.clone(),
        why: format!("the value is not usable: {error}"),
    })
}

/// What is under [`Keys::networks`]. Of two networks with one VNI only the first by name counts.
pub fn networks(keys: &Keys, pairs: &[KvPair]) -> Listing<Network> {
    let mut listing = parse(&keys.networks(), pairs, |pair| {
        let name = keys.parse_network(&pair.key)?;
        let record = checked(pair, rules::check_network)?;
        Ok(Network { name, record })
    });
    let mut seen: BTreeMap<Vni, String> = BTreeMap::new();
    let bad = &mut listing.bad;
    listing.items.retain(|network| {
        let vni = network.record.vni;
        if let Some(first) = seen.get(&vni) {
            bad.push(BadKey {
                key: keys.network(&network.name),
                why: format!("VNI {vni} is the network `{first}` already"),
            });
            return false;
        }
        seen.insert(vni, network.name.clone());
        true
    });
    listing
}

/// What is under [`Keys::nodes`].
pub fn nodes(keys: &Keys, pairs: &[KvPair]) -> Listing<Node> {
    parse(&keys.nodes(), pairs, |pair| {
        Ok(Node {
            id: keys.parse_node(&pair.key)?,
            record: checked(pair, rules::check_node)?,
            session: pair.session.clone(),
        })
    })
}

/// What is under [`Keys::endpoints`] or a folder of it.
pub fn endpoints(keys: &Keys, pairs: &[KvPair]) -> Listing<Endpoint> {
    parse(&keys.endpoints(), pairs, |pair| {
        let path = keys.parse_endpoint(&pair.key)?;
        let record = checked(pair, |record| rules::check_endpoint(path.net, record))?;
        Ok(Endpoint { path, record })
    })
}

fn checked<T: DeserializeOwned>(
    pair: &KvPair,
    check: impl Fn(&T) -> Result<(), RuleError>,
) -> Result<T, String> {
    let record = decode(pair).map_err(|bad| bad.why)?;
    check(&record).map_err(|error| error.to_string())?;
    Ok(record)
}

/// `folder` itself is no item, and no folder in it: such keys only keep folders from being empty.
fn parse<T>(
    folder: &str,
    pairs: &[KvPair],
    item: impl Fn(&KvPair) -> Result<T, String>,
) -> Listing<T> {
    let mut listing = Listing {
        items: Vec::with_capacity(pairs.len()),
        bad: Vec::new(),
    };
    let is_item = |pair: &&KvPair| pair.key != folder && !pair.key.ends_with('/');
    for pair in pairs.iter().filter(is_item) {
        match item(pair) {
            Ok(item) => listing.items.push(item),
            Err(why) => listing.bad.push(BadKey {
                key: pair.key.clone(),
                why,
            }),
        }
    }
    listing
}
