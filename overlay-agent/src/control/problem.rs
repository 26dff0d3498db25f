//! What is wrong in the store without stopping the agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use overlay_common::net::{MacAddr, Vni};
use thiserror::Error;

use crate::store::schema::{BadKey, EndpointId, NodeId};

/// Something that one part of the overlay pays for, and only that part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Problem {
    #[error("key {0} (skipped)")]
    BadKey(BadKey),
    #[error("{0} more keys (skipped)")]
    MoreBadKeys(usize),
    #[error(
        "node {node} has {ip}, which is this host's own address: its endpoints are not reachable \
         (is it an old entry of this host? then `overlay-agent node forget {node}`)"
    )]
    OwnAddress { node: String, ip: IpAddr },
    #[error("nodes {first} and {second} both have the address {ip}: they are treated as one host")]
    SharedAddress {
        first: String,
        second: String,
        ip: IpAddr,
    },
    #[error(
        "node {node} ({theirs}) and this host {own} ({ours}) are a mixed-family overlay without a \
         common underlay family: their endpoints do not reach each other; --advertise an address \
         of the other family on one of them"
    )]
    NoCommonFamily {
        node: String,
        theirs: &'static str,
        own: String,
        ours: &'static str,
    },
    #[error(
        "{device} no longer has the advertised address {ip}: give it back, or start the agent with \
         another --advertise"
    )]
    AddressGone { device: String, ip: IpAddr },
    #[error(
        "underlay device {0} is gone: frames to and from other hosts are lost until it is back"
    )]
    UnderlayGone(String),
    #[error("node {node} uses UDP port {port} and this host {own}: frames between them are lost")]
    OtherPort { node: String, port: u16, own: u16 },
    #[error("endpoint {endpoint} is on node `{node}`, which is not in the store")]
    UnknownNode { endpoint: EndpointId, node: NodeId },
    #[error("VNI {vni} has endpoints on this host, but no network in the store has it")]
    NoNetwork { vni: Vni },
    #[error(
        "VNI {vni} has {count} {what}, and a network floods to {max}: the others get no broadcast \
         (flood mode multicast has no such limit for hosts)"
    )]
    TooManyToFlood {
        vni: Vni,
        what: &'static str,
        count: usize,
        max: usize,
    },
    #[error(
        "group {group} cannot be reached from this host: it has no VTEP address of that family, \
         or the underlay device is down; its networks flood on this host only"
    )]
    NoGroupRoute { group: IpAddr },
    #[error(
        "network {network} needs an MTU of {wanted}, but this host's underlay with its {underlay} \
         bytes leaves {mtu}: endpoints of this host have that"
    )]
    UnderlayMtu {
        network: String,
        wanted: u16,
        underlay: u16,
        mtu: u16,
    },
    #[error("endpoint {endpoint} keeps its MTU of before instead of {mtu}: {why}")]
    EndpointMtu {
        endpoint: EndpointId,
        mtu: u32,
        why: String,
    },
    #[error("endpoint {endpoint} of VNI {vni} has {ip}, which is the gateway's: it is not reached")]
    GatewayTaken {
        vni: Vni,
        ip: IpAddr,
        endpoint: EndpointId,
    },
    #[error("endpoints {kept} and {dropped} of VNI {vni} both have MAC {mac}: the first is used")]
    DuplicateMac {
        vni: Vni,
        mac: MacAddr,
        kept: EndpointId,
        dropped: EndpointId,
    },
    #[error(
        "endpoints {kept} and {dropped} of VNI {vni} both have address {ip}: the first is used"
    )]
    DuplicateIp {
        vni: Vni,
        ip: IpAddr,
        kept: EndpointId,
        dropped: EndpointId,
    },
    #[error("there are more than {max} hosts in the store: {node} is not reachable")]
    TooManyPeers { node: String, max: u32 },
    #[error(
        "there are more than {max} pairs of network and host: frames of VNI {vni} with {peer} are not counted"
    )]
    TooManyCounters { vni: Vni, peer: String, max: u32 },
    #[error(
        "endpoint {endpoint} is in the store for this host, but its interface {device} is gone: \
         `overlay-agent endpoint rm {endpoint}` releases its address"
    )]
    InterfaceGone {
        endpoint: EndpointId,
        device: String,
    },
    #[error(
        "device {device} is of endpoint {endpoint}, which the store does not know: remove it with \
         `ip link del {device}`"
    )]
    Orphan { endpoint: String, device: String },
    #[error(
        "endpoint {0} of this host is not in the store any more, so other hosts do not reach it: \
         `overlay-agent endpoint rm {0}`, then add it again"
    )]
    NotInStore(EndpointId),
    #[error(
        "endpoint {endpoint} was not made, but its address {ip} stays taken until the store can be \
         written again"
    )]
    Uncleared { endpoint: EndpointId, ip: IpAddr },
    #[error("what is read of the store cannot be kept for a time without it: {0}")]
    NotKept(String),
    #[error(
        "a snapshot of the store that was corrupt, or of another node or prefix, is now {}: remove it",
        .0.display()
    )]
    SetAside(PathBuf),
    #[error(
        "endpoint {0} was added while the store was away: other hosts reach it when the store is back"
    )]
    Unpublished(EndpointId),
    #[error(
        "endpoint {0} was removed while the store was away: other hosts and its address know that when the \
         store is back"
    )]
    Unwithdrawn(EndpointId),
    #[error("what has changed while the store was away cannot be told to it: {0}")]
    NotPublished(String),
    #[error(
        "endpoint {endpoint} is out of the data path: its address {ip}, given to it while the store was away, is \
         of {by}: `overlay-agent endpoint rm {endpoint}`, then add it again"
    )]
    AddressLost {
        endpoint: EndpointId,
        ip: IpAddr,
        by: String,
    },
    #[error("Docker is not served: {0}")]
    Docker(String),
    #[error("network {name} is not the same in Docker: {why}")]
    DockerNetwork { name: String, why: String },
    #[error("Docker's endpoint {endpoint}: {why}")]
    DockerEndpoint { endpoint: String, why: String },
    #[error(
        "network {name} is not in Docker: its name is taken there by a network of driver {driver}; remove \
         that with `docker network rm {name}`"
    )]
    DockerNameTaken { name: String, driver: String },
    #[error("names are not served to {whom}: {why}")]
    Names { whom: &'static str, why: String },
    #[error("agents of different versions are running: {0}; bring all hosts to one version")]
    Versions(String),
    #[error("the store is not followed, the last state stays: {0}")]
    NotFollowed(String),
    #[error("the data path is behind: {0}")]
    NotApplied(String),
    #[error("this host is not registered: {0}")]
    NotRegistered(String),
    #[error("this host is not in Consul's catalog, which nothing else depends on: {0}")]
    NotInCatalog(String),
}

/// How many hosts of each version are named.
const NAMED: usize = 3;

/// What is to be said of `(version, host)`; nothing when all versions are the same.
pub(super) fn versions<'a>(agents: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Problem> {
    let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (version, host) in agents {
        hosts.entry(version).or_default().push(host);
    }
    if hosts.len() < 2 {
        return None;
    }
    let said = hosts.into_iter().map(|(version, mut hosts)| {
        hosts.sort_unstable();
        let more = hosts.len().saturating_sub(NAMED);
        hosts.truncate(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("{} on {}{more}", version.escape_debug(), hosts.join(", "))
    });
    let said: Vec<_> = said.collect();
    Some(Problem::Versions(said.join("; ")))
}

impl Problem {
    /// Whether it is a device that an endpoint has left.
    pub(super) fn is_of(&self, id: &str) -> bool {
        matches!(self, Self::Orphan { endpoint, .. } if endpoint == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_when_they_differ() {
        let same = [("1", "a"), ("1", "b")];
        assert_eq!(versions(same.into_iter()), None);
        let others = [("2", "f"), ("2", "e"), ("2", "d"), ("2", "c")];
        let said = versions(same.into_iter().chain(others));
        let said = said.map(|problem| problem.to_string()).unwrap_or_default();
        assert!(
            said.contains("1 on a, b; 2 on c, d, e and 1 more"),
            "{said}"
        );
    }
}
