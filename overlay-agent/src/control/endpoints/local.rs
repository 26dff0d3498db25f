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
        let underlay_mtu = self.state().underlay_mtu;
        let addresses = with_prefixes(&network.record, record);
        let new = NewEndpoint {
            device: &device,
            id: path.id.as_str(),
            netns,
            ifname,
            mac: record.mac,
            mtu: network_mtu(network.record.mtu, underlay_mtu).into(),
            addresses: &addresses,
        };
        endpoint::create(&self.netlink, &self.owner, &new).await?;
        let joined = self.join(path, record, &device).await;
        if joined.is_err() {
            self.log(
                "remove device",
                endpoint::remove(&self.netlink, &self.owner, &device).await,
            );
        }
        joined
    }

    /// Puts a new veth into the data path, then into the store.
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
            seen: false,
            leaving: false,
        };
        self.state().locals.insert(path.id.clone(), local);
        let joined = match self.in_data_path(path, ifindex).await {
            Ok(()) => {
                let published = self.registry.publish_endpoint(path, record).await;
                published.map_err(AgentError::from)
            }
            Err(error) => Err(error),
        };
        match &joined {
            Ok(()) => self.witness.published(path.clone()),
            Err(_) => self.leave(path, device).await,
        }
        joined
    }

    async fn in_data_path(&self, path: &EndpointPath, ifindex: u32) -> Result<(), AgentError> {
        self.sync(Trust::Memory).await?;
        let state = self.state();
        let rows = state.actual.as_ref();
        if rows.is_some_and(|rows| rows.endpoints.contains_key(&ifindex)) {
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

    /// Undoes [`Self::join`] on this host, without stopping at an error.
    async fn leave(&self, path: &EndpointPath, device: &str) {
        self.state().locals.remove(&path.id);
        self.log("update the data path", self.sync(Trust::Memory).await);
        self.log("detach", self.datapath.lock().await.detach_endpoint(device));
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
        self.sync(Trust::Memory).await?;
        self.datapath.lock().await.detach_endpoint(&device)?;
        endpoint::remove(&self.netlink, &self.owner, &device).await?;
        self.release_all(path, &ips).await?;
        self.state().locals.remove(&path.id);
        Ok(())
    }

    fn log<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        action: &str,
        result: Result<T, E>,
    ) {
        if let Err(error) = result {
            tracing::warn!("{action}: {:#}", anyhow::Error::from(error));
        }
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
