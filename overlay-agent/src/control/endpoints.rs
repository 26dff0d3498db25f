//! Adding and removing endpoints. Each step that was made is undone when a later one fails.

mod addresses;
mod away;
mod checks;
mod clear;
mod find;
mod fit;
mod handed;
mod local;
mod remote;
mod unfinished;

use std::sync::Arc;

use overlay_common::net::Vni;

use super::agent::Agent;
use super::error::AgentError;
use super::queue::Queued;
use crate::api::types::{At, Endpoint, EndpointRequest};
use crate::store::schema::{EndpointId, EndpointPath, EndpointRecord, Network};
pub use addresses::{mac_for, mac_for_v6};
use addresses::{not_ours, owner};
pub use handed::Handed;

impl Agent {
    /// Adds an endpoint and returns it once the data path knows it.
    pub async fn add_endpoint(
        self: &Arc<Self>,
        request: EndpointRequest,
    ) -> Result<Endpoint, AgentError> {
        let _one_at_a_time = self.operations.lock().await;
        self.require_synced()?;
        let network = self.network(&request.network).await?;
        let _known = self.know(network.record.vni).await;
        let id = EndpointId::random();
        let name = match &request.name {
            Some(name) => name.clone(),
            None => id.to_string(),
        };
        self.refuse_duplicate(&network, &name, request.mac)?;
        self.refuse_allowed(&network, &request.allow_ips)?;
        let away = matches!(request.at, At::Netns { .. }) && self.is_cut_off().await;
        let node = match &request.at {
            At::Netns { .. } => {
                if !away {
                    self.require_registered().await?;
                }
                self.node
            }
            At::Node(node) => self.agentless(node).await?,
        };
        let path = EndpointPath {
            node,
            net: network.record.vni,
            id,
        };
        if matches!(request.at, At::Netns { .. }) {
            self.begun(&path);
        }
        let leases = match away {
            true => self.lease_unasked(&network, &request)?,
            false => self.lease(&network, &path, &request).await?,
        };
        let record = EndpointRecord {
            allow_ips: request.allow_ips,
            forwarding: request.forwarding,
            container: request.container,
            ..addresses::record(name, &leases, request.mac)
        };
        let added = match &request.at {
            At::Netns {
                path: netns,
                ifname,
            } => {
                let later =
                    away.then(|| Queued::add(path.net, record.clone(), &owner(&path), &leases));
                let made = self.add_local(&network, &path, &record, netns, ifname, later);
                made.await
            }
            At::Node(_) => self.add_remote(&path, &record).await,
        };
        if let Err(error) = added {
            if away {
                self.finished(&path);
            } else {
                self.clear(path, leases).await;
            }
            return Err(error);
        }
        self.finished(&path);
        if !away {
            self.echo(|view| view.endpoints.contains_key(&path)).await;
        }
        Ok(self.shown_now(&path, &record))
    }

    /// Removes an endpoint by name, id or the id's first digits. Can be repeated after a failure
    /// half-way.
    pub async fn remove_endpoint(&self, name: &str) -> Result<(), AgentError> {
        let _one_at_a_time = self.operations.lock().await;
        self.require_synced()?;
        let (path, record) = self.find_endpoint(name).await?;
        let _known = self.know(path.net).await;
        if path.node == self.node {
            if self.is_cut_off().await {
                return self.remove_later(&path, record).await;
            }
            self.require_registered().await?;
            self.begun(&path);
            match self.remove_local(&path).await {
                Err(error) if error.is_outage() && self.kept.is_some() => {
                    self.remove_later(&path, record).await?;
                    self.finished(&path);
                    return Ok(());
                }
                removed => removed?,
            }
            self.dequeue(&path.id).await?;
            self.finished(&path);
        } else {
            self.remove_remote(&path, &record).await?;
        }
        self.echo(|view| !view.endpoints.contains_key(&path)).await;
        Ok(())
    }

    /// A network; asked for in the store when it is not known here, as it may be a moment old.
    pub(super) async fn network(&self, name: &str) -> Result<Network, AgentError> {
        if let Some(record) = self.state().view.networks.get(name).cloned() {
            return Ok(Network {
                name: name.to_owned(),
                record,
            });
        }
        Ok(self.registry.network(name).await?)
    }
}

/// Where a VNI is in the view: for messages.
pub(super) fn network_name(view: &super::view::View, vni: Vni) -> String {
    view.network_of(vni)
        .map_or_else(|| vni.to_string(), |(name, _)| name.clone())
}
