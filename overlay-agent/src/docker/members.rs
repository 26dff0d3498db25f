//! The endpoints of Docker's containers: their names, and what nobody will ever release.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use overlay_common::net::Vni;

use super::Docker;
use super::engine::{Engine, SeenEndpoint};
use super::error::DockerError;
use super::keep::in_full;
use crate::control::problem::Problem;
use crate::store::RegistryError;
use crate::store::schema::EndpointId;

/// What Docker lists, by its ids.
type Seen = BTreeMap<String, SeenEndpoint>;

impl Docker {
    /// Gives endpoints on the networks with these ids the names of their containers. With a moment, removes
    /// what this host has had since before it and Docker does not know: it could not be released. What fails
    /// is told, and the rest is done.
    pub(super) async fn members(
        &self,
        engine: &Engine,
        networks: &[&str],
        before: Option<Instant>,
        problems: &mut Vec<Problem>,
    ) -> Result<(), DockerError> {
        let mut seen = Seen::new();
        let mut held: BTreeMap<Vni, Vec<IpAddr>> = BTreeMap::new();
        for id in networks {
            let Some(endpoints) = engine.endpoints(id).await? else {
                continue;
            };
            if let Some(entry) = self.table.get(id) {
                let ips = endpoints.iter().flat_map(|one| one.ips.clone());
                held.entry(entry.vni).or_default().extend(ips);
            }
            seen.extend(endpoints.into_iter().map(|one| (one.id.clone(), one)));
        }
        let mut tell = |id: &str, done: Result<(), DockerError>| {
            if let Err(error) = done {
                let (endpoint, why) = (id.to_owned(), in_full(error));
                problems.push(Problem::DockerEndpoint { endpoint, why });
            }
        };
        for (id, _) in self.of_docker() {
            if let Some(one) = seen.get(&id.to_string()).filter(|one| !one.name.is_empty()) {
                let described = self.agent.describe(&id, &one.name, one.container.clone());
                let described = described.await;
                if described.is_ok() {
                    self.learn_aliases(engine, &id, one);
                }
                tell(&id.to_string(), described.map_err(DockerError::from));
            }
        }
        let Some(before) = before else {
            return Ok(());
        };
        self.forget_left();
        self.forget_asked();
        for (id, net) in self.of_docker() {
            if self.agent.is_since(&id, before) && !seen.contains_key(&id.to_string()) {
                tracing::warn!(endpoint = %id, "Docker does not know it: removing it");
                let removed = self.agent.remove_handed(net, &id).await;
                tell(&id.to_string(), removed.map_err(DockerError::from));
            }
        }
        let is_left = |id: &str| is_of_docker(id) && !seen.contains_key(id);
        self.agent.sweep_devices(is_left).await?;
        for (net, known) in held {
            tell(&net.to_string(), self.free(net, &known, before).await);
        }
        Ok(())
    }

    /// Frees the addresses of a network that were lent to Docker before a moment and are nobody's.
    async fn free(&self, net: Vni, known: &[IpAddr], before: Instant) -> Result<(), DockerError> {
        let held = self.agent.ipam.held(net, self.agent.node).await;
        for (ip, record) in held.map_err(RegistryError::from)? {
            let lent = record.endpoint.parse().is_ok_and(|id: EndpointId| {
                id.is_of_docker() && self.agent.is_lent_since(&id, before)
            });
            if lent && !known.contains(&ip) && self.agent.give_back_as(net, ip, &record).await? {
                tracing::warn!(%ip, vni = %net, "nobody has it: it is free");
            }
        }
        Ok(())
    }

    /// This host's endpoints that Docker has made.
    fn of_docker(&self) -> Vec<(EndpointId, Vni)> {
        let all = self.agent.local_ids().into_iter();
        all.filter(|(id, _)| id.is_of_docker()).collect()
    }
}

fn is_of_docker(id: &str) -> bool {
    id.parse().is_ok_and(|id: EndpointId| id.is_of_docker())
}
