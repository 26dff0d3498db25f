//! Endpoints of this host: store, veth and data path.

use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::control::agent::{Agent, LocalEndpoint, device_name};
use crate::control::desired::{network_mtu, network_overhead};
use crate::control::error::AgentError;
use crate::control::queue::Queued;
use crate::control::sync::Trust;
use crate::host::endpoint::{self, NewEndpoint, Route};
use crate::host::service;
use crate::store::schema::{EndpointPath, EndpointRecord, Network, NetworkRecord};

impl Agent {
    pub(super) async fn add_local(
        &self,
        network: &Network,
        path: &EndpointPath,
        record: &EndpointRecord,
        netns: &Path,
        ifname: &str,
        later: Option<Queued>,
    ) -> Result<(), AgentError> {
        let device = device_name(&path.id);
        let addresses = with_prefixes(&network.record, record);
        let mut routes = routes(&network.record, record);
        routes.extend(to_service(&network.record, record));
        let new = NewEndpoint {
            device: &device,
            id: &path.id.to_string(),
            netns,
            ifname,
            mac: record.mac,
            mtu: self.mtu_on(&network.record),
            addresses: &addresses,
            routes: &routes,
        };
        endpoint::create(&self.netlink, &self.owner, &new).await?;
        self.join_or_undo(path, record, &device, later).await
    }

    /// MTU of an endpoint's interface in bytes.
    pub(super) fn mtu_on(&self, network: &NetworkRecord) -> u32 {
        let state = self.state();
        let overhead = network_overhead(network.flood, state.overhead);
        network_mtu(network.mtu, state.path_mtu, overhead).into()
    }

    /// Puts a veth that was made into the data path and the store, or what the store is told `later`; or removes
    /// it again.
    pub(super) async fn join_or_undo(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
        device: &str,
        later: Option<Queued>,
    ) -> Result<(), AgentError> {
        let joined = self.join(path, record, device, later).await;
        if joined.is_err() {
            self.state().locals.remove(&path.id);
            if let Err(error) = self.dismantle(device).await {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!("not all of endpoint {} is gone: {error}", path.id);
            }
        }
        joined
    }

    /// Puts a new veth into the data path, then into the store: program, rows, device up. In no
    /// other order: a container may send from its first moment.
    async fn join(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
        device: &str,
        later: Option<Queued>,
    ) -> Result<(), AgentError> {
        let attached = self.datapath.lock().await.attach_endpoint(device).await;
        let ifindex = attached?;
        let local = LocalEndpoint {
            vni: path.net,
            record: record.clone(),
            device: device.to_owned(),
            ifindex: Some(ifindex),
            mtu: 0,
            open: false,
            seen: false,
            leaving: false,
            made: Some(Instant::now()),
        };
        self.state().locals.insert(path.id.clone(), local);
        self.in_data_path(path).await?;
        if let Some(queued) = later {
            return self.enqueue(&path.id, queued).await;
        }
        self.registry.publish_endpoint(path, record).await?;
        self.witness.published(path.clone());
        Ok(())
    }

    async fn in_data_path(&self, path: &EndpointPath) -> Result<(), AgentError> {
        self.sync(Trust::Memory).await?;
        let state = self.state();
        if state.locals.get(&path.id).is_some_and(|local| local.open) {
            return Ok(());
        }
        let why = state
            .problems
            .first()
            .map_or_else(String::new, ToString::to_string);
        Err(AgentError::RowsRefused {
            endpoint: path.id.to_string(),
            why,
        })
    }

    /// Takes an endpoint out of the data path in the reverse order: device down, rows, device,
    /// and only then its program. Goes on after an error; the first is returned.
    pub(in crate::control) async fn dismantle(&self, device: &str) -> Result<(), AgentError> {
        let closed = {
            // A sync that still counts it in may be about to bring it up.
            let _datapath = self.datapath.lock().await;
            endpoint::close(&self.netlink, &self.owner, device).await
        };
        let synced = self.sync(Trust::Memory).await;
        endpoint::remove(&self.netlink, &self.owner, device).await?;
        self.datapath.lock().await.detach_endpoint(device)?;
        closed?;
        synced
    }

    pub(super) async fn remove_local(&self, path: &EndpointPath) -> Result<(), AgentError> {
        let record = self.take_out(path).await?;
        if let Some(record) = record {
            self.release_all(path, &record).await?;
        }
        self.state().locals.remove(&path.id);
        Ok(())
    }

    /// Takes an endpoint out of the store and the data path; the addresses that it had stay held.
    pub(super) async fn take_out(
        &self,
        path: &EndpointPath,
    ) -> Result<Option<EndpointRecord>, AgentError> {
        self.witness.withdrawn(path);
        self.registry.withdraw_endpoint(path).await?;
        let (device, record) = {
            let mut state = self.state();
            // One that came from the store and was never adopted has no entry.
            let local = state.locals.get_mut(&path.id);
            match local {
                Some(local) => {
                    local.leaving = true;
                    (local.device.clone(), Some(local.record.clone()))
                }
                None => {
                    let record = state.view.endpoints.get(path).cloned();
                    (device_name(&path.id), record)
                }
            }
        };
        self.dismantle(&device).await?;
        Ok(record)
    }
}

/// The endpoint's addresses with the prefix lengths of their subnets.
fn with_prefixes(network: &NetworkRecord, record: &EndpointRecord) -> Vec<IpNet> {
    record
        .addresses()
        .filter_map(|ip| IpNet::new(ip, network.subnet_of(ip)?.prefix_len()).ok())
        .collect()
}

/// By way of the gateway of an endpoint's subnet: the network's other subnets, and all the rest
/// unless the network is internal.
pub(super) fn routes(network: &NetworkRecord, record: &EndpointRecord) -> Vec<Route> {
    let mut routes = Vec::new();
    for ip in record.addresses() {
        let Some(gateway) = network.gateway_of(ip) else {
            continue;
        };
        let family = |subnet: &&IpNet| subnet.addr().is_ipv4() == ip.is_ipv4();
        let others = network.subnets.iter().filter(family);
        let others = others.filter(|subnet| !subnet.contains(&ip)).copied();
        let default = match ip {
            IpAddr::V4(_) => IpNet::from(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::from(Ipv6Net::default()),
        };
        let default = (!network.options.internal).then_some(default);
        routes.extend(others.chain(default).map(|destination| Route {
            destination,
            gateway,
        }));
    }
    routes
}

/// To the service address, also where there is no other way out.
fn to_service(network: &NetworkRecord, record: &EndpointRecord) -> Option<Route> {
    let gateway = network.gateway_of(record.ip4?.into())?;
    Some(Route {
        destination: IpNet::from(IpAddr::from(service::ADDRESS)),
        gateway,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(network: &serde_json::Value, record: &serde_json::Value) -> Vec<String> {
        let network = serde_json::from_value(network.clone()).unwrap();
        let record = serde_json::from_value(record.clone()).unwrap();
        let text = |route: &Route| format!("{} via {}", route.destination, route.gateway);
        routes(&network, &record).iter().map(text).collect()
    }

    #[test]
    fn routes_go_by_the_gateway_of_the_own_subnet() {
        let mut network = serde_json::json!({
            "vni": 1, "subnets": ["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"],
            "gateway": "10.0.0.1", "options": {"gateways": ["10.0.1.254", "fd00::1"]},
        });
        let record = serde_json::json!({
            "ip4": "10.0.1.7", "ip6": "fd00::7", "mac": "02:42:0a:00:01:07",
        });
        assert_eq!(
            shown(&network, &record),
            [
                "10.0.0.0/24 via 10.0.1.254",
                "0.0.0.0/0 via 10.0.1.254",
                "::/0 via fd00::1"
            ]
        );
        network["options"]["internal"] = true.into();
        assert_eq!(shown(&network, &record), ["10.0.0.0/24 via 10.0.1.254"]);
        // A network of an earlier version.
        network["options"]["gateways"] = serde_json::json!([]);
        assert_eq!(shown(&network, &record), [""; 0]);
    }
}
