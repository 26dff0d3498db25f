//! Listing endpoints and finding one by what people call it.

use std::collections::BTreeMap;

use super::network_name;
use crate::api::types::{Endpoint, EndpointState};
use crate::control::agent::{Agent, State};
use crate::control::error::AgentError;
use crate::store::schema::{EndpointPath, EndpointRecord};

impl Agent {
    /// Endpoints of all hosts.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, AgentError> {
        self.require_synced()?;
        let state = self.state();
        let all = self.all(&state);
        Ok(all
            .iter()
            .map(|(path, record)| self.shown(&state, path, record))
            .collect())
    }

    /// One endpoint by name, id or the id's first digits.
    pub fn endpoint(&self, name: &str) -> Result<Endpoint, AgentError> {
        self.require_synced()?;
        let path = self.find_endpoint(name)?;
        let state = self.state();
        let all = self.all(&state);
        match all.get(&path) {
            Some(record) => Ok(self.shown(&state, &path, record)),
            None => Err(AgentError::NoEndpoint(name.to_owned())),
        }
    }

    pub(super) fn find_endpoint(&self, name: &str) -> Result<EndpointPath, AgentError> {
        let state = self.state();
        let all = self.all(&state);
        // A whole id or name goes before the beginning of an id.
        let exact = |path: &EndpointPath, record: &EndpointRecord| {
            path.id.as_str() == name || record.name == name
        };
        let begins = |path: &EndpointPath, _: &EndpointRecord| {
            !name.is_empty() && path.id.as_str().starts_with(name)
        };
        let found = |matches: &dyn Fn(&EndpointPath, &EndpointRecord) -> bool| {
            let all = all.iter().filter(|(path, record)| matches(path, record));
            all.map(|(path, _)| path.clone()).collect::<Vec<_>>()
        };
        let mut paths = found(&exact);
        if paths.is_empty() {
            paths = found(&begins);
        }
        match paths.len() {
            0 => Err(AgentError::NoEndpoint(name.to_owned())),
            1 => Ok(paths.remove(0)),
            _ => Err(AgentError::AmbiguousEndpoint {
                name: name.to_owned(),
                ids: paths.iter().map(|path| path.id.to_string()).collect(),
            }),
        }
    }

    /// What is in the store, and what of this host is not, or no longer.
    fn all<'a>(&self, state: &'a State) -> BTreeMap<EndpointPath, &'a EndpointRecord> {
        let published = state.view.endpoints.iter();
        let published = published.map(|(path, record)| (path.clone(), record));
        let local = state.locals.iter().map(|(id, local)| {
            let path = self.own_path(local.vni, id);
            (path, &local.record)
        });
        published.chain(local).collect()
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
                (true, Some(_)) => EndpointState::Up,
                (true, None) => EndpointState::Gone,
            },
        }
    }
}
