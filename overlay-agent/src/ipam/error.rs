//! Why an address was not given.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_common::net::Vni;
use thiserror::Error;

use super::{Family, Lease};
use crate::store::StoreError;
use crate::store::schema::{AddressRecord, BadKey};

#[derive(Debug, Error)]
pub enum IpamError {
    #[error(
        "{ip} is outside the network's subnets {}: choose one inside, or none for a free one",
        list(.subnets)
    )]
    Outside { ip: IpAddr, subnets: Vec<IpNet> },
    #[error("{ip} is the network address of {subnet}, which no host may have")]
    NetworkAddress { ip: IpAddr, subnet: IpNet },
    #[error("{ip} is the broadcast address of {subnet}, which no host may have")]
    BroadcastAddress { ip: IpAddr, subnet: IpNet },
    #[error("{0} is the network's gateway")]
    Gateway(IpAddr),
    #[error("{0} is reserved on the network: no endpoint gets it")]
    Reserved(IpAddr),
    #[error("{0} is an --allow-ip of an endpoint: choose another, or none for a free one")]
    Allowed(IpAddr),
    #[error("{ip} is taken{}: choose another, or none for a free one", holder(.by.as_deref()))]
    Taken {
        ip: IpAddr,
        /// `None` when it was freed in the same moment.
        by: Option<Box<AddressRecord>>,
    },
    #[error("{ip} is not this endpoint's to release: it is held{}", holder(Some(.by)))]
    NotOurs { ip: IpAddr, by: Box<AddressRecord> },
    #[error("{0} is held by nobody: claim it first")]
    NotHeld(IpAddr),
    #[error("the network has no {family} subnet")]
    NoSubnet { family: Family },
    #[error(
        "no {family} address is left in {}: `overlay-agent ipam leaks` shows what nobody uses; remove \
         endpoints that nobody needs, or make a larger network",
        list(.subnets)
    )]
    Exhausted { family: Family, subnets: Vec<IpNet> },
    #[error("there is no network with VNI {0}")]
    NoSuchNetwork(Vni),
    #[error("the store holds something unusable at {0}; correct that key there, or delete it")]
    Corrupt(BadKey),
    /// The claim may be in the store: it is for the caller to release.
    #[error("nobody knows whether {} was claimed", .lease.ip)]
    Unsettled {
        lease: Lease,
        #[source]
        source: StoreError,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BadKey> for IpamError {
    fn from(bad: BadKey) -> Self {
        Self::Corrupt(bad)
    }
}

fn list(subnets: &[IpNet]) -> String {
    let texts: Vec<_> = subnets.iter().map(IpNet::to_string).collect();
    texts.join(", ")
}

fn holder(by: Option<&AddressRecord>) -> String {
    by.map_or_else(String::new, |record| {
        format!(
            " by the endpoint {} on the node {}",
            record.endpoint.escape_debug(),
            record.node
        )
    })
}
