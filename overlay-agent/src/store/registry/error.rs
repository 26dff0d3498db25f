//! Why an operation on the store was not done.

use std::net::IpAddr;

use overlay_common::net::Vni;
use thiserror::Error;

use crate::store::client::SessionId;
use crate::store::error::StoreError;
use crate::store::schema::{BadKey, EndpointPath, NodeId, RuleError};

#[derive(Debug, Error)]
pub enum RegistryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rule(#[from] RuleError),
    #[error("the store holds something unusable at {0}; correct that key there, or delete it")]
    Corrupt(BadKey),
    #[error(
        "`{key}` says layout version {found}, and this agent knows up to {known}: use an agent of a later version"
    )]
    SchemaVersion { key: String, found: u32, known: u32 },

    #[error("the network `{0}` exists already: choose another name, or use it: it is on all hosts")]
    NetworkExists(String),
    #[error("VNI {vni} is taken by the network {by}: choose another --vni, or none for a free one")]
    VniTaken { vni: Vni, by: String },
    #[error("no VNI is reserved for the Docker network {0} any more")]
    NotReserved(String),
    #[error("all VNIs are taken")]
    NoVniLeft,
    #[error(
        "no /16 of 10.64.0.0/10 is left that neither another network nor a route of this host \
         overlaps: choose a --subnet"
    )]
    NoSubnetLeft,
    #[error("there is no network `{0}`: `overlay-agent network ls` lists them")]
    NoSuchNetwork(String),
    #[error("there is no network with VNI {0}, or the token may not read it")]
    NoSuchVni(Vni),
    #[error(
        "the network `{name}` has endpoints ({count}): {}; remove them first",
        list(.endpoints, *.count)
    )]
    NetworkInUse {
        name: String,
        /// "name (id) on node"; the first few.
        endpoints: Vec<String>,
        count: usize,
    },

    #[error("there is no node `{0}`: `overlay-agent node ls` lists them")]
    NoSuchNode(String),
    #[error("several nodes are named `{name}`; use one of the ids {}", join(.ids))]
    AmbiguousNode { name: String, ids: Vec<NodeId> },
    #[error(
        "a node named `{name}` exists already ({id}): choose another name, or remove that one \
         with `overlay-agent node forget {id}`"
    )]
    NodeExists { name: String, id: NodeId },
    #[error("{vtep} is the VTEP of the node `{by}` already: `overlay-agent node ls` lists them")]
    VtepTaken { vtep: IpAddr, by: String },
    #[error("the node `{name}` ({id}) has a running agent; stop it first")]
    NodeAlive { name: String, id: NodeId },
    #[error(
        "the node {id} is locked by the session {by}: another agent runs with this node id, or an \
         earlier run's session has not expired yet"
    )]
    NodeLocked { id: NodeId, by: SessionId },
    #[error("the session {0} ended; a new one is needed")]
    SessionLost(SessionId),

    #[error("{ip} is not held for the endpoint {} on the node {}: claim it first", path.id, path.node)]
    AddressNotHeld { ip: IpAddr, path: EndpointPath },
    #[error("the endpoint {} exists already with other values", .0.id)]
    EndpointExists(EndpointPath),
}

impl From<BadKey> for RegistryError {
    fn from(bad: BadKey) -> Self {
        Self::Corrupt(bad)
    }
}

fn list(endpoints: &[String], count: usize) -> String {
    let text = endpoints.join(", ");
    match count.saturating_sub(endpoints.len()) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

fn join(ids: &[NodeId]) -> String {
    let texts: Vec<_> = ids.iter().map(NodeId::to_string).collect();
    texts.join(", ")
}
