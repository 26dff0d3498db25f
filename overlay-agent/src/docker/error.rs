//! Why Docker did not get what it asked for.

use std::path::PathBuf;

use ipnet::IpNet;
use thiserror::Error;

use crate::control::error::AgentError;
use crate::host::netlink::NetlinkError;
use crate::ipam::IpamError;
use crate::store::RegistryError;
use crate::store::schema::RuleError;

#[derive(Debug, Error)]
pub enum DockerError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Ipam(#[from] IpamError),
    #[error(transparent)]
    Rule(#[from] RuleError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("`{text}` is not {wanted}")]
    Text { text: String, wanted: &'static str },
    #[error("there is no driver option `{name}`: there are {known}")]
    UnknownOption { name: String, known: String },
    #[error("driver option {name}={value}: {why}")]
    Option {
        name: String,
        value: String,
        why: String,
    },
    #[error("there is no IPAM option `{0}`")]
    UnknownIpamOption(String),
    #[error("range {range} is not in subnet {subnet}")]
    RangeOutside { range: IpNet, subnet: IpNet },
    #[error("subnet {subnet} overlaps {with}: choose another --subnet, or none for a free one")]
    Overlap { subnet: IpNet, with: String },
    #[error("the network has no {} subnet", if *v6 { "IPv6" } else { "IPv4" })]
    NoSuchPool { v6: bool },
    #[error(
        "its addresses are not of the shared pool: give --ipam-driver {0} besides -d {0}",
        super::DRIVER
    )]
    OtherIpam,
    #[error(
        "driver option `network` is the agent's own: `overlay-agent network ls` and `docker network ls` show what is there"
    )]
    OwnOption,
    #[error(
        "a subnet overlaps that of another network that is being made: choose another --subnet, or none for a free one"
    )]
    OverlapMaking,
    #[error(
        "no /16 of 10.64.0.0/10 is left that neither another network nor a route of this host \
         overlaps: choose a --subnet"
    )]
    NoSubnetLeft,
    #[error(
        "the network is not in the store: it is being made, was made elsewhere under the same name at the \
         same moment, or was removed; `docker network ls` says whether it is there"
    )]
    NoNetwork,
    #[error("pool {0} is of no network")]
    NoPool(String),
    #[error("there is no endpoint {0}")]
    NoEndpoint(String),
    #[error("there is no container `{0}`: `docker ps` lists those that run")]
    NoContainer(String),
    #[error("container {0} does not run: start it first")]
    NotRunning(String),
    #[error(
        "cannot ask Docker for container `{container}`; does it run? `overlay-agent run --docker-socket` says where it listens"
    )]
    Unasked {
        container: String,
        #[source]
        source: Box<DockerError>,
    },
    #[error("Docker at {}: {source}", socket.display())]
    Engine {
        socket: PathBuf,
        #[source]
        source: bollard::errors::Error,
    },
}
