//! Who has which address, by the store.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use super::agent::Agent;
use super::error::AgentError;
use super::utc::utc;
use crate::api::types::Address;
use crate::ipam::{Usage, Users};
use crate::store::registry::{self, Survey};
use crate::store::schema::{EndpointId, unix_now};

impl Agent {
    /// The addresses of a network, or of all, that have a record.
    pub async fn addresses(&self, network: Option<&str>) -> Result<Vec<Address>, AgentError> {
        let survey = self.survey(network).await?;
        let here = self.here();
        let users = Users::of(&survey, &here, unix_now());
        let all = survey.addresses.iter();
        Ok(all
            .map(|address| shown(&survey, address, users.usage(address)))
            .collect())
    }

    /// Those that nobody uses although they are held.
    pub async fn leaks(&self, network: Option<&str>) -> Result<Vec<Address>, AgentError> {
        let mut all = self.addresses(network).await?;
        all.retain(|address| address.state == Usage::Leaked);
        Ok(all)
    }

    /// Frees them; which.
    pub async fn reclaim(&self, network: Option<&str>) -> Result<Vec<Address>, AgentError> {
        let _no_endpoint_is_being_added = self.operations.lock().await;
        let survey = self.survey(network).await?;
        let here = self.here();
        let users = Users::of(&survey, &here, unix_now());
        let leaked = survey.addresses.iter();
        let leaked: Vec<_> = leaked
            .filter(|address| users.usage(address) == Usage::Leaked)
            .cloned()
            .collect();
        let freed = self.registry.reclaim(&leaked).await?;
        let freed: Vec<_> = freed
            .iter()
            .map(|address| shown(&survey, address, Usage::Leaked))
            .collect();
        for one in &freed {
            tracing::info!(network = one.network, "nobody uses {}: it is free", one.ip);
        }
        Ok(freed)
    }

    async fn survey(&self, network: Option<&str>) -> Result<Survey, AgentError> {
        self.require_synced()?;
        let net = match network {
            Some(name) => Some(self.network(name).await?.record.vni),
            None => None,
        };
        Ok(self.registry.survey(net, self.node).await?)
    }

    fn here(&self) -> BTreeSet<EndpointId> {
        self.state().locals.keys().cloned().collect()
    }
}

fn shown(survey: &Survey, address: &registry::Address, state: Usage) -> Address {
    let record = address.record.as_ref();
    let endpoint = address.holder();
    let known = endpoint
        .as_ref()
        .and_then(|path| survey.endpoints.get(path));
    let released = record.and_then(|record| record.name.clone());
    let node = endpoint.as_ref().map(|path| {
        let node = survey.nodes.get(&path.node);
        node.map_or_else(|| path.node.to_string(), |node| node.name.clone())
    });
    let since = record.map(|record| record.released.unwrap_or(record.since));
    Address {
        ip: address.ip,
        network: survey
            .networks
            .get(&address.net)
            .map_or_else(|| address.net.to_string(), |(name, _)| name.clone()),
        vni: address.net,
        state,
        name: known.map(|record| record.name.clone()).or(released),
        endpoint: endpoint.map(|path| path.id.to_string()),
        node,
        since: since.and_then(|since| {
            // Whoever may write the record may write anything.
            Some(utc(UNIX_EPOCH.checked_add(Duration::from_secs(since))?))
        }),
    }
}
