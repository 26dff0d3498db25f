//! Why the agent did not do what it was asked.

use std::net::IpAddr;

use overlay_common::net::{MacAddr, Vni};
use thiserror::Error;

use crate::datapath::{DatapathError, TablesError};
use crate::host::endpoint::EndpointError;
use crate::host::netlink::NetlinkError;
use crate::host::service::ServiceError;
use crate::ipam::IpamError;
use crate::store::{RegistryError, StoreError};

/// Who has to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// What was asked for is not there.
    Missing,
    /// What was asked for contradicts what is there, or is no valid request.
    Request,
    /// The store does not answer.
    Store,
    /// This host or the agent.
    Host,
}

#[derive(Debug, Error)]
pub enum AgentError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ipam(#[from] IpamError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Tables(#[from] TablesError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(
        "the agent has not read the store at {address} yet, so it does not know which endpoints \
         there are: `overlay-agent status` says how the store is doing"
    )]
    NotSynced { address: String },
    /// As [`Problem::NotRegistered`](super::problem::Problem) says it.
    #[error("endpoints of this host can neither be added nor removed now: {0}")]
    NotRegistered(String),
    #[error(
        "the store is away, and which addresses of network {0} are free is known only where endpoints are on it: \
         `overlay-agent status` says how the store is doing"
    )]
    NetworkNotFollowed(String),
    #[error("the store is away, and what it is to be told cannot be kept: {0}")]
    NotKept(String),
    #[error("there is no network `{0}`: `overlay-agent network ls` lists them")]
    NoNetwork(String),
    #[error("there is no endpoint `{0}`: `overlay-agent endpoint ls` lists them")]
    NoEndpoint(String),
    #[error("several endpoints are called `{name}`: use one of the ids {}", ids.join(", "))]
    AmbiguousEndpoint { name: String, ids: Vec<String> },
    #[error(
        "endpoint `{name}` is on network {network} already: choose another --name, or remove it \
         with `overlay-agent endpoint rm {id}`"
    )]
    EndpointExists {
        name: String,
        network: String,
        id: String,
    },
    #[error("{ip} is taken by endpoint {by}: choose another --ip, or none for a free one")]
    IpTaken {
        ip: IpAddr,
        /// "name (id) on node".
        by: String,
    },
    #[error(
        "{0} was lent to this host for too short a time, or its network was removed: try again"
    )]
    LeaseGone(IpAddr),
    #[error("it has taken too long, and nobody waits for it any more: try again")]
    TooLate,
    #[error("MAC {mac} of VNI {vni} is taken by endpoint {by}: choose another --mac, or none")]
    MacTaken { mac: MacAddr, vni: Vni, by: String },
    #[error("{0} and {1} are of one family: an endpoint has one address of each")]
    TwoOfAFamily(IpAddr, IpAddr),
    #[error("{ip} is {by}: it cannot be allowed to another endpoint")]
    AllowTaken {
        ip: IpAddr,
        /// "the network's gateway" or "the address of endpoint name (id)".
        by: String,
    },
    #[error(
        "MTU {mtu} does not fit this host's underlay: {underlay} bytes there leave {most} at most"
    )]
    MtuAboveUnderlay { mtu: u16, most: u16, underlay: u16 },
    #[error(
        "the {underlay} bytes of this host's underlay leave {most} for a network that needs \
         {least}: raise the underlay's MTU"
    )]
    UnderlayTooSmall {
        least: u16,
        most: u16,
        underlay: u16,
    },
    #[error("this host has no VTEP of the family of group {0}: choose one of the other family")]
    GroupFamily(IpAddr),
    #[error(
        "{vtep} and the hosts of this overlay are a mixed-family overlay without a common underlay \
         family: none of them could send there; --advertise an address of its family on one first"
    )]
    NoCommonFamily { vtep: IpAddr },
    #[error("endpoint {endpoint} is on host {node}: remove it there")]
    OtherHost { endpoint: String, node: String },
    #[error("host {0} has an agent: add its endpoints there")]
    HasAgent(String),
    #[error("{0} is this host's own address: the address of the other host is wanted")]
    OwnAddress(IpAddr),
    #[error("the data path did not take endpoint {endpoint}: {why}")]
    RowsRefused { endpoint: String, why: String },
}

impl AgentError {
    /// Whether the store is away, which passes without anybody's doing.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Store(error)
            | Self::Registry(RegistryError::Store(error))
            | Self::Ipam(IpamError::Store(error)) => error.is_outage(),
            _ => false,
        }
    }

    pub fn blame(&self) -> Blame {
        match self {
            Self::Registry(RegistryError::Store(_))
            | Self::Ipam(IpamError::Store(_) | IpamError::Unsettled { .. })
            | Self::Store(_)
            | Self::NotSynced { .. }
            | Self::NetworkNotFollowed(_)
            | Self::TooLate
            | Self::NotRegistered(_) => Blame::Store,
            Self::NoNetwork(_)
            | Self::NoEndpoint(_)
            | Self::Registry(
                RegistryError::NoSuchNetwork(_)
                | RegistryError::NoSuchVni(_)
                | RegistryError::NoSuchNode(_),
            ) => Blame::Missing,
            Self::Registry(_)
            | Self::Ipam(_)
            | Self::Endpoint(_)
            | Self::AmbiguousEndpoint { .. }
            | Self::EndpointExists { .. }
            | Self::IpTaken { .. }
            | Self::LeaseGone(_)
            | Self::MacTaken { .. }
            | Self::TwoOfAFamily(..)
            | Self::AllowTaken { .. }
            | Self::MtuAboveUnderlay { .. }
            | Self::UnderlayTooSmall { .. }
            | Self::NoCommonFamily { .. }
            | Self::GroupFamily(_)
            | Self::OtherHost { .. }
            | Self::HasAgent(_)
            | Self::OwnAddress(_) => Blame::Request,
            Self::Datapath(_)
            | Self::Service(_)
            | Self::Tables(_)
            | Self::Netlink(_)
            | Self::NotKept(_)
            | Self::RowsRefused { .. } => Blame::Host,
        }
    }
}
