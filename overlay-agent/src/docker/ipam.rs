//! The IPAM driver: pools and addresses.
//!
//! Nothing of a pool is remembered but what its id says, so that it means the same after a restart of
//! everybody. A pool is asked for before its network is made, and by another call than that; its addresses are
//! the store's once the network is there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use overlay_common::net::Vni;
use rand::Rng as _;
use serde_json::{Value, json};

use super::Docker;
use super::error::DockerError;
use super::options::VNI;
use super::plugin::types::{AddressAnswer, AddressRequest, PoolAnswer, PoolRelease, PoolRequest};
use crate::store::schema::{Network, rules, subnets};

/// How long a request waits for the network that it is about to be in the store.
pub(super) const PENDING: Duration = Duration::from_secs(3);

const KIND: &str = "RequestAddressType";
const GATEWAY: &str = "com.docker.network.gateway";

/// A pool's id: the subnet, after the VNI where the agent itself made the Docker network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PoolId {
    vni: Option<Vni>,
    subnet: IpNet,
}

impl PoolId {
    fn text(self) -> String {
        match self.vni {
            Some(vni) => format!("{vni}@{}", self.subnet),
            None => self.subnet.to_string(),
        }
    }

    fn parse(text: &str) -> Result<Self, DockerError> {
        let refused = || DockerError::NoPool(text.to_owned());
        let (vni, subnet) = match text.split_once('@') {
            Some((vni, subnet)) => (Some(vni.parse().map_err(|_| refused())?), subnet),
            None => (None, text),
        };
        let subnet = subnet.parse().map_err(|_| refused())?;
        Ok(Self { vni, subnet })
    }
}

pub(super) async fn request_pool(
    docker: &Docker,
    asked: PoolRequest,
) -> Result<PoolAnswer, DockerError> {
    let vni = twin_of(&asked.options.unwrap_or_default())?;
    let subnet = match (asked.pool.as_str(), asked.v6, vni) {
        ("", v6, Some(_)) => return Err(DockerError::NoSuchPool { v6 }),
        ("", false, None) => docker.free_subnet().await?,
        ("", true, None) => random_ula(),
        (text, ..) => subnet(text)?,
    };
    rules::check_subnets(&[subnet])?;
    if !asked.sub_pool.is_empty() {
        let range = self::subnet(&asked.sub_pool)?;
        if range.addr() != range.network() {
            return Err(rules::RuleError::HostBits { subnet: range }.into());
        }
        if !subnet.contains(&range) {
            return Err(DockerError::RangeOutside { range, subnet });
        }
    }
    let chosen = asked.pool.is_empty() && !asked.v6;
    if vni.is_none() && !chosen && docker.made_with(subnet).is_none() {
        docker.making().ask(subnet);
    }
    let id = PoolId { vni, subnet };
    Ok(PoolAnswer {
        id: id.text(),
        pool: subnet.to_string(),
    })
}

fn twin_of(options: &BTreeMap<String, String>) -> Result<Option<Vni>, DockerError> {
    if let Some(name) = options.keys().find(|name| name.as_str() != VNI) {
        return Err(DockerError::UnknownIpamOption(name.clone()));
    }
    let Some(text) = options.get(VNI) else {
        return Ok(None);
    };
    let vni = text.parse().map_err(|_| DockerError::Text {
        text: text.clone(),
        wanted: "a VNI",
    })?;
    Ok(Some(vni))
}

fn subnet(text: &str) -> Result<IpNet, DockerError> {
    text.parse().map_err(|_| DockerError::Text {
        text: text.to_owned(),
        wanted: "a subnet",
    })
}

/// A /64 of the unique local addresses (RFC 4193, section 3.2.2: 40 random bits), its subnet number random,
/// too.
fn random_ula() -> IpNet {
    let random: u64 = rand::rng().random();
    let high = 0xfd << 56 | random & 0x00ff_ffff_ffff_ffff;
    let address = std::net::Ipv6Addr::from_bits(u128::from(high) << 64);
    IpNet::V6(Ipv6Net::new_assert(address, 64))
}

pub(super) fn release_pool(docker: &Docker, asked: &PoolRelease) {
    if let Ok(pool) = PoolId::parse(&asked.id) {
        docker.making().answered(pool.subnet);
    }
}

pub(super) async fn request_address(
    docker: &Docker,
    asked: AddressRequest,
) -> Result<AddressAnswer, DockerError> {
    let pool = PoolId::parse(&asked.pool)?;
    let wanted = match asked.address.as_str() {
        "" => None,
        text => Some(address(text)?),
    };
    let kind = asked.options.as_ref().and_then(|options| options.get(KIND));
    let is_gateway = kind.is_some_and(|kind| kind == GATEWAY);
    let ip = if is_gateway {
        // It is claimed with the network.
        wanted.unwrap_or_else(|| subnets::default_gateway(&pool.subnet))
    } else if let Some(ip) = wanted.filter(|_| docker.is_fresh(pool.subnet)) {
        // Kept from endpoints; the same.
        ip
    } else {
        let network = network_of(docker, pool).await?;
        docker.agent.lend(&network, pool.subnet, wanted).await?
    };
    Ok(AddressAnswer {
        address: format!("{ip}/{}", pool.subnet.prefix_len()),
    })
}

pub(super) async fn release_address(
    docker: &Docker,
    asked: AddressRequest,
) -> Result<Value, DockerError> {
    let pool = PoolId::parse(&asked.pool)?;
    let ip = address(&asked.address)?;
    if !docker.is_fresh(pool.subnet)
        && let Some(network) = docker.network_with(pool.vni, pool.subnet)
    {
        docker.agent.give_back(network.record.vni, ip).await?;
    }
    Ok(json!({}))
}

fn address(text: &str) -> Result<IpAddr, DockerError> {
    super::engine::address(text).ok_or_else(|| DockerError::Text {
        text: text.to_owned(),
        wanted: "an address",
    })
}

/// Waits for a network that is being made.
async fn network_of(docker: &Docker, pool: PoolId) -> Result<Network, DockerError> {
    docker
        .once_there(|| docker.network_with(pool.vni, pool.subnet))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_ids_round_trip() {
        for text in [
            "10.64.0.0/16",
            "42@10.64.0.0/16",
            "fd00::/64",
            "42@fd00::/64",
            "2001:db8::/64",
            "2600:1::/64",
        ] {
            assert_eq!(PoolId::parse(text).unwrap().text(), text);
        }
        let id = PoolId::parse("42@fd00::/64").unwrap();
        assert_eq!(id.vni.map(Vni::get), Some(42));
        for text in ["", "10.64.0.0", "0@10.64.0.0/16", "x@10.0.0.0/8"] {
            assert!(PoolId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unique_local_addresses() {
        let (one, two) = (random_ula(), random_ula());
        assert_ne!(one, two);
        assert_eq!(one, one.trunc());
        assert!(one.to_string().starts_with("fd"), "{one}");
        rules::check_subnets(&[one]).unwrap();
    }
}
