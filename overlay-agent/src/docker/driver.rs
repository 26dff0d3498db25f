//! The network driver: networks and endpoints.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_common::net::MacAddr;
use serde_json::{Map, Value, json};

use super::engine::address;
use super::error::DockerError;
use super::options::{self, Options};
use super::plugin::types::{
    EndpointAnswer, EndpointRequest, Given, InterfaceName, IpamData, JoinAnswer, NetworkRequest,
    StaticRoute,
};
use super::table::Entry;
use super::{ADDRESS_SPACE, Docker};
use crate::control::agent::peer_name;
use crate::control::endpoints::Handed;
use crate::control::problem::Problem;
use crate::store::RegistryError;
use crate::store::registry::{NewNetwork, Reservation};
use crate::store::schema::{EndpointId, Network, rules};

/// `types.NEXTHOP` of libnetwork.
const VIA_NEXT_HOP: u8 = 0;
/// `types.CONNECTED`.
const ON_THE_LINK: u8 = 1;

/// Docker tells the name when this is done, by an event: until then only the VNI is reserved.
pub(super) async fn create_network(
    docker: &Docker,
    asked: NetworkRequest,
) -> Result<Value, DockerError> {
    let said = asked.options.unwrap_or_default();
    let options = Options::parse(&options::generic(&said))?;
    let pools: Vec<IpamData> = [asked.ipv4, asked.ipv6]
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    let subnets: Vec<IpNet> = pools
        .iter()
        .filter_map(|data| data.pool.parse().ok())
        .collect();
    if let Some(name) = options.network {
        return create_twin(docker, asked.id, name).await;
    }
    let foreign = |data: &IpamData| data.address_space != ADDRESS_SPACE;
    if pools.iter().any(foreign) {
        return Err(DockerError::OtherIpam);
    }
    let aux = pools.iter().filter_map(|data| data.aux_addresses.as_ref());
    let count = aux.map(Map::len).sum();
    if count > rules::MAX_RESERVED {
        return Err(rules::RuleError::TooManyReserved { count }.into());
    }
    let new = NewNetwork {
        subnets: subnets.clone(),
        gateways: pools
            .iter()
            .filter_map(|data| address(data.gateway.as_ref()?))
            .collect(),
        internal: options::is_internal(&said),
        ..made_of(String::new(), &options)
    };
    docker.refuse_overlap(&subnets).await?;
    docker.agent.refuse_for_underlay(&new)?;
    if !docker.making().reserve(&asked.id, &subnets) {
        return Err(DockerError::OverlapMaking);
    }
    if let Err(error) = reserve(docker, &asked.id, &new).await {
        docker.making().settle(&asked.id);
        return Err(error);
    }
    for subnet in subnets {
        docker.making().answered(subnet);
    }
    Ok(json!({}))
}

async fn reserve(docker: &Docker, id: &str, new: &NewNetwork) -> Result<(), DockerError> {
    let registry = &docker.agent.registry;
    let reservation = docker.reservation(id);
    let vni = registry.reserve_vni(new.vni, &reservation).await?;
    if let Err(error) = new.check(vni) {
        registry.unreserve(&reservation).await?;
        return Err(error.into());
    }
    Ok(())
}

/// The agent itself makes it, for a network that is in the store.
async fn create_twin(docker: &Docker, id: String, name: String) -> Result<Value, DockerError> {
    if !docker.making().twins.contains(&name) {
        return Err(DockerError::OwnOption);
    }
    let there = || docker.network_named(&name);
    let network = docker.once_there(there).await?;
    docker.table.change(|entries| {
        entries.insert(id, Entry::of(&name, &network.record, true));
    });
    Ok(json!({}))
}

/// What the options say of a network.
pub(super) fn made_of(name: String, options: &Options) -> NewNetwork {
    NewNetwork {
        name,
        vni: options.vni,
        subnets: Vec::new(),
        gateways: Vec::new(),
        mtu: options.mtu,
        flood: options.flood,
        flood_rate: options.flood_rate,
        internal: false,
        vlan: options.vlan,
        ranges: Vec::new(),
        exclude: Vec::new(),
        avoid: Vec::new(),
        reserved: Vec::new(),
        reservation: None,
    }
}

impl Docker {
    pub(super) fn reservation(&self, id: &str) -> Reservation {
        Reservation {
            node: self.agent.node,
            docker: id.to_owned(),
        }
    }
}

/// Docker removes it whatever is answered. So the store keeps one that others use, and it is made
/// in Docker anew.
pub(super) async fn delete_network(
    docker: &Docker,
    asked: NetworkRequest,
) -> Result<Value, DockerError> {
    let known = docker.table.get(&asked.id);
    docker.table.change(|entries| {
        entries.remove(&asked.id);
    });
    docker.making().settle(&asked.id);
    let registry = &docker.agent.registry;
    registry.unreserve(&docker.reservation(&asked.id)).await?;
    // Without an entry it may have come into the store a moment ago.
    let networks = registry.networks().await.map_err(RegistryError::from)?;
    let found = networks.items.into_iter().find(|network| {
        let record = &network.record;
        record.options.docker.as_ref() == Some(&asked.id)
            || known
                .as_ref()
                .is_some_and(|entry| entry.name == network.name && entry.vni == record.vni)
    });
    let Some(network) = found else {
        return Ok(json!({}));
    };
    match docker.agent.remove_network(&network.name).await {
        Ok(()) => {
            tracing::info!(network = network.name, "removed in Docker, on all hosts");
            Ok(json!({}))
        }
        Err(error) => {
            docker.keep(Problem::DockerNetwork {
                name: network.name,
                why: format!("it was removed here and is made again: {error}"),
            });
            Err(error.into())
        }
    }
}

pub(super) async fn create_endpoint(
    docker: &Docker,
    asked: EndpointRequest,
) -> Result<EndpointAnswer, DockerError> {
    let network = network(docker, &asked.network).await?;
    let interface = asked.interface.unwrap_or_default();
    let ips = [&interface.address, &interface.address6];
    let ips: Vec<IpAddr> = ips.into_iter().filter_map(|text| address(text)).collect();
    let given = match interface.mac.as_str() {
        "" => None,
        text => Some(text.parse::<MacAddr>().map_err(|_| DockerError::Text {
            text: text.to_owned(),
            wanted: "a MAC address",
        })?),
    };
    let id = endpoint_id(&asked.endpoint)?;
    let new = Handed {
        network,
        id,
        ips,
        mac: given,
    };
    let record = docker.agent.add_handed(&new).await?;
    let mac = given.is_none().then(|| record.mac.to_string());
    Ok(EndpointAnswer {
        interface: Given { mac },
    })
}

/// Waits for one that is being made.
async fn network(docker: &Docker, id: &str) -> Result<Network, DockerError> {
    let there = || {
        let entry = docker.table.get(id)?;
        let network = docker.network_named(&entry.name)?;
        (network.record.vni == entry.vni).then_some(network)
    };
    docker.once_there(there).await
}

fn endpoint_id(text: &str) -> Result<EndpointId, DockerError> {
    text.parse().map_err(|_| DockerError::Text {
        text: text.to_owned(),
        wanted: "an endpoint's id",
    })
}

pub(super) async fn delete_endpoint(
    docker: &Docker,
    asked: EndpointRequest,
) -> Result<Value, DockerError> {
    let id = endpoint_id(&asked.endpoint)?;
    if let Some((net, _)) = docker.agent.local_endpoint(&id) {
        docker.agent.remove_handed(net, &id).await?;
    }
    docker.left(&asked.endpoint);
    Ok(json!({}))
}

pub(super) fn leave(docker: &Docker, asked: &EndpointRequest) -> Value {
    docker.left(&asked.endpoint);
    json!({})
}

/// The container's way to its networks. Without a gateway Docker gives it a way out by its own bridge.
pub(super) fn join(docker: &Docker, asked: &EndpointRequest) -> Result<JoinAnswer, DockerError> {
    let id = endpoint_id(&asked.endpoint)?;
    let missing = || DockerError::NoEndpoint(asked.endpoint.clone());
    let (net, record) = docker.agent.local_endpoint(&id).ok_or_else(missing)?;
    let network = docker.network_numbered(net).ok_or_else(missing)?;
    let inner = docker.agent.inner_routes(&network, &record).into_iter();
    let inner = inner.map(|route| StaticRoute {
        destination: route.destination.to_string(),
        route_type: VIA_NEXT_HOP,
        next_hop: route.gateway.to_string(),
    });
    let to_service = record
        .ip4
        .and_then(|_| docker.route_to_service(&asked.endpoint, &asked.sandbox))
        .map(|net| StaticRoute {
            destination: net.to_string(),
            route_type: ON_THE_LINK,
            next_hop: String::new(),
        });
    Ok(JoinAnswer {
        interface_name: InterfaceName {
            src_name: peer_name(&id),
            dst_prefix: "eth",
        },
        static_routes: inner.chain(to_service).collect(),
    })
}
