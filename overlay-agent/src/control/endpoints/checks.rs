//! What an endpoint may not have because of those that are there.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_common::net::{MacAddr, Vni};

use crate::control::agent::{Agent, State};
use crate::control::error::AgentError;
use crate::store::schema::{EndpointId, EndpointRecord, Network};

impl Agent {
    pub(super) fn refuse_duplicate(
        &self,
        network: &Network,
        name: &str,
        mac: Option<MacAddr>,
    ) -> Result<(), AgentError> {
        let state = self.state();
        let vni = network.record.vni;
        for (id, record) in members(&state, vni) {
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

    /// Refuses single addresses that are somebody's. A prefix may hold such: it is for routers,
    /// which send in the name of whole networks.
    pub(super) fn refuse_allowed(
        &self,
        network: &Network,
        allow_ips: &[IpNet],
    ) -> Result<(), AgentError> {
        let state = self.state();
        let single = |net: &&IpNet| net.prefix_len() == net.max_prefix_len();
        for ip in allow_ips.iter().filter(single).map(IpNet::addr) {
            if network.record.gateways().any(|gateway| gateway == ip) {
                let by = "the network's gateway".to_owned();
                return Err(AgentError::AllowTaken { ip, by });
            }
            let has = |(_, record): &(&EndpointId, &EndpointRecord)| {
                record.addresses().any(|address| address == ip)
            };
            if let Some((id, record)) = members(&state, network.record.vni).find(has) {
                let by = format!("the address of endpoint {} ({id})", record.name);
                return Err(AgentError::AllowTaken { ip, by });
            }
        }
        Ok(())
    }

    /// The single addresses that a network's endpoints may send from besides their own.
    pub(super) fn allowed_on(&self, net: Vni) -> Vec<IpAddr> {
        let state = self.state();
        members(&state, net)
            .flat_map(|(_, record)| record.allowed_addresses().collect::<Vec<_>>())
            .collect()
    }
}

/// Endpoints of a network as the store has them, and those of this host that are not there (yet).
fn members(state: &State, net: Vni) -> impl Iterator<Item = (&EndpointId, &EndpointRecord)> {
    let published = state.view.endpoints.iter();
    let published =
        published.filter(move |(path, _)| path.net == net && !state.is_removed(&path.id));
    let local = state
        .locals
        .iter()
        .filter(move |(_, local)| local.vni == net);
    published
        .map(|(path, record)| (&path.id, record))
        .chain(local.map(|(id, local)| (id, &local.record)))
}
