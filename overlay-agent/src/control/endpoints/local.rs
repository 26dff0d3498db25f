//! Endpoints of this host: store, veth and data path.

use std::path::Path;

use ipnet::IpNet;

use crate::control::agent::{Agent, LocalEndpoint, device_name};
use crate::control::desired::network_mtu;
use crate::control::error::AgentError;
use crate::control::sync::Trust;
use crate::host::endpoint::{self, NewEndpoint};
use crate::store::schema::{EndpointPath, EndpointRecord, Network, NetworkRecord};

impl Agent {
    pub(super) async fn add_local(
        &self,
        network: &Network,
        path: &EndpointPath,
        record: &EndpointRecord,
        netns: &Path,
        ifname: &str,
    ) -> Result<(), AgentError> {
        let device = device_name(&path.id);
        let (underlay_mtu, overhead) = {
            let state = self.state();
            (state.underlay_mtu, state.overhead)
        };
        let addresses = with_prefixes(&network.record, record);
        let new = NewEndpoint {
            device: &device,
            id: path.id.as_str(),
            netns,
            ifname,
            mac: record.mac,
            mtu: network_mtu(network.record.mtu, underlay_mtu, overhead).into(),
            addresses: &addresses,
        };
        endpoint::create(&self.netlink, &self.owner, &new).await?;
        let joined = self.join(path, record, &device).await;
        if joined.is_err() {
            self.state().locals.remove(&path.id);
            if let Err(error) = self.dismantle(&device).await {
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
    ) -> Result<(), AgentError> {
        let attached = self.datapath.lock().await.attach_endpoint(device).await;
        let ifindex = attached?;
        let local = LocalEndpoint {
            vni: path.net,
            record: record.clone(),
            device: device.to_owned(),
            ifindex: Some(ifindex),
            open: false,
            seen: false,
            leaving: false,
        };
        self.state().locals.insert(path.id.clone(), local);
        self.in_data_path(path).await?;
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
    async fn dismantle(&self, device: &str) -> Result<(), AgentError> {
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
        self.witness.withdrawn(path);
        self.registry.withdraw_endpoint(path).await?;
        let (device, ips) = {
            let mut state = self.state();
            // One that came from the store and was never adopted has no entry.
            let local = state.locals.get_mut(&path.id);
            match local {
                Some(local) => {
                    local.leaving = true;
                    let ips = local.record.addresses().collect::<Vec<_>>();
                    (local.device.clone(), ips)
                }
                None => {
                    let record = state.view.endpoints.get(path);
                    let ips = record.map_or_else(Vec::new, |record| record.addresses().collect());
                    (device_name(&path.id), ips)
                }
            }
        };
        self.dismantle(&device).await?;
        self.release_all(path, &ips).await?;
        self.state().locals.remove(&path.id);
        Ok(())
    }
}

/// The endpoint's addresses with the prefix lengths of their subnets.
fn with_prefixes(network: &NetworkRecord, record: &EndpointRecord) -> Vec<IpNet> {
    record
        .addresses()
        .filter_map(|ip| {
            let subnet = network.subnets.iter().find(|subnet| subnet.contains(&ip))?;
            IpNet::new(ip, subnet.prefix_len()).ok()
        })
        .collect()
}
