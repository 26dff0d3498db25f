//! Adding and removing endpoints while the store is away.

use std::collections::BTreeSet;
use std::net::IpAddr;

use overlay_common::net::Vni;

use super::addresses::wants;
use crate::api::types::EndpointRequest;
use crate::control::agent::{Agent, device_name};
use crate::control::error::AgentError;
use crate::ipam::{Family, Former, IpamError, Lease, Pool, Want};
use crate::store::schema::{EndpointPath, EndpointRecord, Network, Nonce};

impl Agent {
    /// Chooses what was asked for out of what is free as far as this host knows, anywhere: others who choose at
    /// the same moment are seldom met.
    pub(super) fn lease_unasked(
        &self,
        network: &Network,
        request: &EndpointRequest,
    ) -> Result<Vec<Lease>, AgentError> {
        let net = network.record.vni;
        if !self.state().view.knows(net) {
            return Err(AgentError::NetworkNotFollowed(network.name.clone()));
        }
        let pool = Pool::of(&network.record).without(self.allowed_on(net));
        let mut taken = self.taken_on(net);
        let mut leases = Vec::new();
        for want in wants(&network.record, request)? {
            let ip = match self.rather_again(net, request.name.as_deref(), want) {
                Want::Address(ip) => {
                    pool.check(ip)?;
                    if taken.contains(&ip) {
                        return Err(IpamError::Taken { ip, by: None }.into());
                    }
                    ip
                }
                Want::Again(Former { ip, .. })
                    if pool.check(ip).is_ok() && !taken.contains(&ip) =>
                {
                    ip
                }
                Want::Again(Former { ip, .. }) => pool.any_free(Family::of(ip), &taken)?,
                Want::Any(family) => pool.any_free(family, &taken)?,
            };
            taken.insert(ip);
            leases.push(Lease {
                ip,
                nonce: Nonce::random(),
            });
        }
        Ok(leases)
    }

    /// The addresses of a network that somebody is known to have.
    fn taken_on(&self, net: Vni) -> BTreeSet<IpAddr> {
        let state = self.state();
        let published = state.view.endpoints.iter();
        let published =
            published.filter(|(path, _)| path.net == net && !state.is_removed(&path.id));
        let published = published.flat_map(|(_, record)| record.addresses());
        let locals = state.locals.values().filter(|local| local.vni == net);
        let locals = locals.flat_map(|local| local.record.addresses());
        let uncleared = state.uncleared.values().flatten().copied();
        published.chain(locals).chain(uncleared).collect()
    }

    /// Takes an endpoint of this host out of the data path; the store is told when it is back.
    pub(super) async fn remove_later(
        &self,
        path: &EndpointPath,
        record: EndpointRecord,
    ) -> Result<(), AgentError> {
        let queued = crate::control::queue::Queued::remove(path.net, record);
        self.enqueue(&path.id, queued).await?;
        self.witness.withdrawn(path);
        let device = match self.state().locals.get_mut(&path.id) {
            Some(local) => {
                local.leaving = true;
                local.device.clone()
            }
            None => device_name(&path.id),
        };
        self.dismantle(&device).await?;
        self.state().locals.remove(&path.id);
        tracing::info!(endpoint = %path.id, "removed here; the store is told when it is back");
        Ok(())
    }
}
