//! Listing endpoints and finding one by what people call it.

use std::collections::BTreeMap;

use super::network_name;
use crate::api::types::{Endpoint, EndpointState};
use crate::control::agent::{Agent, State};
use crate::control::error::AgentError;
use crate::control::queue::Queued;
use crate::store::registry::EndpointFilter;
use crate::store::schema::{EndpointId, EndpointPath, EndpointRecord};

impl Agent {
    /// Endpoints of all hosts.
    pub async fn endpoints(&self) -> Result<Vec<Endpoint>, AgentError> {
        self.require_synced()?;
        let all = self.everybody().await;
        let state = self.state();
        Ok(all
            .iter()
            .map(|(path, record)| self.shown(&state, path, record))
            .collect())
    }

    /// One endpoint by name, id or the id's first digits.
    pub async fn endpoint(&self, name: &str) -> Result<Endpoint, AgentError> {
        self.require_synced()?;
        let (path, record) = self.find_endpoint(name).await?;
        Ok(self.shown(&self.state(), &path, &record))
    }

    pub(super) async fn find_endpoint(
        &self,
        name: &str,
    ) -> Result<(EndpointPath, EndpointRecord), AgentError> {
        if let Some(found) = self.known_by_id(name) {
            return Ok(found);
        }
        let mut all = self.everybody().await;
        let id: Option<EndpointId> = name.parse().ok();
        // A whole id or name goes before the beginning of an id.
        let exact = |path: &EndpointPath, record: &EndpointRecord| {
            id.as_ref() == Some(&path.id) || record.name == name
        };
        let begins = |path: &EndpointPath, _: &EndpointRecord| {
            !name.is_empty() && path.id.to_string().starts_with(name)
        };
        let found = |matches: &dyn Fn(&EndpointPath, &EndpointRecord) -> bool| {
            let all = all.iter().filter(|(path, record)| matches(path, record));
            all.map(|(path, _)| path.clone()).collect::<Vec<_>>()
        };
        let mut paths = found(&exact);
        if paths.is_empty() {
            paths = found(&begins);
        }
        if paths.len() > 1 {
            return Err(AgentError::AmbiguousEndpoint {
                name: name.to_owned(),
                ids: paths.iter().map(|path| path.id.to_string()).collect(),
            });
        }
        let found = paths.pop().and_then(|path| all.remove_entry(&path));
        found.ok_or_else(|| AgentError::NoEndpoint(name.to_owned()))
    }

    /// An endpoint of this host by its whole id: nobody else has that, so nobody has to be asked.
    fn known_by_id(&self, id: &str) -> Option<(EndpointPath, EndpointRecord)> {
        let id = id.parse().ok()?;
        let (net, record) = self.local_endpoint(&id)?;
        Some((self.own_path(net, &id), record))
    }

    /// What is in the store, and what of this host is not, or no longer. While the store cannot be asked, what is
    /// known of it here: that is the networks with endpoints of this host.
    async fn everybody(&self) -> BTreeMap<EndpointPath, EndpointRecord> {
        let asked = if self.registry.client().health().view().up {
            self.registry
                .endpoints(EndpointFilter::default())
                .await
                .ok()
        } else {
            None
        };
        let state = self.state();
        let mut all: BTreeMap<_, _> = match asked {
            Some(listing) => {
                let items = listing.items.into_iter();
                items
                    .map(|endpoint| (endpoint.path, endpoint.record))
                    .collect()
            }
            None => state.view.endpoints.clone(),
        };
        all.retain(|path, _| !state.is_removed(&path.id));
        all.extend(state.locals.iter().map(|(id, local)| {
            let path = self.own_path(local.vni, id);
            (path, local.record.clone())
        }));
        all
    }

    /// As people see it.
    pub(super) fn shown_now(&self, path: &EndpointPath, record: &EndpointRecord) -> Endpoint {
        self.shown(&self.state(), path, record)
    }

    fn shown(&self, state: &State, path: &EndpointPath, record: &EndpointRecord) -> Endpoint {
        let here = path.node == self.node;
        let local = state.locals.get(&path.id).filter(|_| here);
        let node = state.view.nodes.get(&path.node);
        Endpoint {
            id: path.id.to_string(),
            name: record.name.clone(),
            network: network_name(&state.view, path.net),
            vni: path.net,
            node: node.map_or_else(|| path.node.to_string(), |node| node.name.clone()),
            ip4: record.ip4,
            ip6: record.ip6,
            mac: record.mac,
            container: record.container.clone(),
            aliases: record.aliases.clone(),
            allow_ips: record.allow_ips.clone(),
            forwarding: record.forwards(),
            device: local.map(|local| local.device.clone()),
            state: match (here, local.and_then(|local| local.ifindex)) {
                (false, _) => EndpointState::Remote,
                (true, _) if state.queue.get(&path.id).is_some_and(Queued::is_lost) => {
                    EndpointState::Lost
                }
                (true, Some(_)) => EndpointState::Up,
                (true, None) => EndpointState::Gone,
            },
        }
    }
}
