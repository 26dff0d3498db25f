//! Adding and removing endpoints. Each step that was made is undone when a later one fails.

mod clear;
mod find;
mod local;
mod remote;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use overlay_common::net::{MacAddr, Vni};

use super::agent::Agent;
use super::error::AgentError;
use crate::api::types::{At, Endpoint, EndpointRequest};
use crate::ipam::{self, Family, IpamError, Pool, Want};
use crate::store::schema::{
    EndpointId, EndpointPath, EndpointRecord, Extra, Network, NetworkRecord, NodeId, Owner,
};

/// MAC of an endpoint that asked for none, as Docker makes it: locally administered, and as
/// unique on the network as the address.
pub fn mac_for(ip: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = ip.octets();
    MacAddr([0x02, 0x42, a, b, c, d])
}

impl Agent {
    /// Adds an endpoint and returns it once the data path knows it.
    pub async fn add_endpoint(
        self: &Arc<Self>,
        request: EndpointRequest,
    ) -> Result<Endpoint, AgentError> {
        let _one_at_a_time = self.operations.lock().await;
        self.require_synced()?;
        let network = self.network(&request.network).await?;
        let id = EndpointId::random();
        let name = match &request.name {
            Some(name) => name.clone(),
            None => id.to_string(),
        };
        self.refuse_duplicate(&network, &name, request.mac)?;
        let node = match &request.at {
            At::Netns { .. } => {
                self.require_registered().await?;
                self.node
            }
            At::Node(node) => self.agentless(node).await?,
        };
        let path = EndpointPath {
            node,
            net: network.record.vni,
            id,
        };
        let owner = owner(&path);
        let want = request
            .ip
            .map_or(Want::Any(first_family(&network.record)), Want::Address);
        let pool = Pool::of(&network.record);
        let lease = match ipam::allocate(&self.registry, &pool, want, &owner).await {
            Ok(lease) => lease,
            Err(error) => {
                if let IpamError::Unsettled { lease, .. } = &error {
                    self.clear(path, *lease).await;
                }
                return Err(self.name_holder(network.record.vni, error));
            }
        };
        let added = match record(&network, name, lease.ip, request.mac) {
            Ok(record) => match &request.at {
                At::Netns {
                    path: netns,
                    ifname,
                } => {
                    self.add_local(&network, &path, &record, netns, ifname)
                        .await
                }
                At::Node(_) => self.add_remote(&path, &record).await,
            },
            Err(error) => Err(error),
        };
        if let Err(error) = added {
            self.clear(path, lease).await;
            return Err(error);
        }
        self.echo(|view| view.endpoints.contains_key(&path)).await;
        self.endpoint(path.id.as_str())
    }

    /// Removes an endpoint by name, id or the id's first digits. Can be repeated after a failure
    /// half-way.
    pub async fn remove_endpoint(&self, name: &str) -> Result<(), AgentError> {
        let _one_at_a_time = self.operations.lock().await;
        self.require_synced()?;
        let path = self.find_endpoint(name)?;
        if path.node == self.node {
            self.require_registered().await?;
            self.remove_local(&path).await?;
        } else {
            self.remove_remote(&path).await?;
        }
        self.echo(|view| !view.endpoints.contains_key(&path)).await;
        Ok(())
    }

    /// A network; asked for in the store when it is not known here, as it may be a moment old.
    async fn network(&self, name: &str) -> Result<Network, AgentError> {
        if let Some(record) = self.state().view.networks.get(name).cloned() {
            return Ok(Network {
                name: name.to_owned(),
                record,
            });
        }
        Ok(self.registry.network(name).await?)
    }

    fn refuse_duplicate(
        &self,
        network: &Network,
        name: &str,
        mac: Option<MacAddr>,
    ) -> Result<(), AgentError> {
        let state = self.state();
        let vni = network.record.vni;
        let published = state.view.endpoints.iter();
        let published = published.map(|(path, record)| (path.net, &path.id, record));
        let local = state
            .locals
            .iter()
            .map(|(id, local)| (local.vni, id, &local.record));
        for (_, id, record) in published.chain(local).filter(|(net, ..)| *net == vni) {
            if record.name == name {
                return Err(AgentError::EndpointExists {
                    name: name.to_owned(),
                    network: network.name.clone(),
                    id: id.to_string(),
                });
            }
            if mac == Some(record.mac) {
                let (mac, by) = (record.mac, format!("{} ({id})", record.name));
                return Err(AgentError::MacTaken { mac, vni, by });
            }
        }
        Ok(())
    }

    /// The same error, with the holder of a taken address by its names.
    fn name_holder(&self, net: Vni, error: IpamError) -> AgentError {
        let (ip, claim) = match error {
            IpamError::Taken {
                ip,
                by: Some(claim),
            } => (ip, claim),
            other => return other.into(),
        };
        let state = self.state();
        let local = state.locals.iter().map(|(id, local)| (id, &local.record));
        let published = state.view.endpoints.iter();
        let published = published.filter(|(path, _)| path.net == net && path.node == claim.node);
        let name = published
            .map(|(path, record)| (&path.id, record))
            .chain(local)
            .find(|(id, _)| id.as_str() == claim.endpoint)
            .map(|(_, record)| record.name.as_str())
            .filter(|name| *name != claim.endpoint);
        let id = claim.endpoint.escape_debug();
        let node = node_name(&state.view, claim.node);
        let by = match name {
            Some(name) => format!("{} ({id}) on {node}", name.escape_debug()),
            None => format!("{id} on {node}"),
        };
        AgentError::IpTaken { ip, by }
    }

    /// Releases the addresses of an endpoint that is gone.
    async fn release_all(&self, path: &EndpointPath, ips: &[IpAddr]) -> Result<(), AgentError> {
        for ip in ips {
            released(ipam::release(&self.registry, path.net, *ip, &owner(path), None).await)?;
        }
        Ok(())
    }
}

/// What was not ours to release any more is released: an earlier attempt has done it, although its
/// answer was lost.
fn released(result: Result<bool, IpamError>) -> Result<(), AgentError> {
    match result {
        Ok(_) | Err(IpamError::NotOurs { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn owner(path: &EndpointPath) -> Owner {
    Owner {
        node: path.node,
        endpoint: path.id.clone(),
    }
}

fn first_family(network: &NetworkRecord) -> Family {
    let has_v4 = network.subnets.iter().any(|subnet| subnet.addr().is_ipv4());
    if has_v4 { Family::V4 } else { Family::V6 }
}

fn record(
    network: &Network,
    name: String,
    ip: IpAddr,
    mac: Option<MacAddr>,
) -> Result<EndpointRecord, AgentError> {
    let (ip4, ip6) = match ip {
        IpAddr::V4(ip) => (Some(ip), None),
        IpAddr::V6(ip) => (None, Some(ip)),
    };
    let mac = mac.or(ip4.map(mac_for)).ok_or_else(|| AgentError::NoMac {
        network: network.name.clone(),
    })?;
    Ok(EndpointRecord {
        ip4,
        ip6,
        mac,
        name,
        container: None,
        extra: Extra::new(),
    })
}

/// Name of a node, or its id when the store does not know it.
fn node_name(view: &super::view::View, id: NodeId) -> String {
    view.nodes
        .get(&id)
        .map_or_else(|| id.to_string(), |node| node.name.clone())
}

/// Where a VNI is in the view: for messages.
pub(super) fn network_name(view: &super::view::View, vni: Vni) -> String {
    view.network_of(vni)
        .map_or_else(|| vni.to_string(), |(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_from_address() {
        let mac = mac_for(Ipv4Addr::new(10, 0, 255, 3));
        assert_eq!(mac.to_string(), "02:42:0a:00:ff:03");
        assert!(!mac.is_multicast());
    }
}
