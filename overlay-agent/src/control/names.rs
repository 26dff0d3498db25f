//! The service that endpoints ask for names.

use std::collections::BTreeMap;
use std::time::Instant;

use overlay_common::net::Vni;

use super::agent::Agent;
use super::error::AgentError;
use super::problem::Problem;
use crate::host::service::{self, SERVICE_DEVICE, Service, Sockets};
use crate::store::schema::{EndpointPath, EndpointRecord, NetworkRecord};

/// An endpoint of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Of the host side of its veth.
    pub ifindex: u32,
    pub net: Vni,
    /// Who has other endpoints, too, which it may ask about as well.
    pub container: Option<String>,
    /// When it was made; `None` for one of an earlier run.
    pub made: Option<Instant>,
}

impl Agent {
    /// Looks at who may ask, and what there is to be known. Not for long: the agent waits meanwhile.
    pub(crate) fn known<R>(
        &self,
        look: impl for<'a> FnOnce(
            &[Asker],
            &BTreeMap<String, NetworkRecord>,
            &mut (dyn Iterator<Item = (&'a EndpointPath, &'a EndpointRecord)> + 'a),
        ) -> R,
    ) -> R {
        let state = self.state();
        let locals = state.locals.values().filter(|local| !local.leaving);
        let askers: Vec<Asker> = locals
            .filter_map(|local| {
                Some(Asker {
                    ifindex: local.ifindex?,
                    net: local.vni,
                    container: local.record.container.clone(),
                    made: local.made,
                })
            })
            .collect();
        // A name of a dead host's leads nowhere, and may be another one's by now.
        let dead = state.liveness.dead();
        let endpoints = state.view.endpoints.iter();
        let mut endpoints = endpoints.filter(|(path, _)| !dead.contains(&path.node));
        look(&askers, &state.view.networks, &mut endpoints)
    }

    /// Makes the way from endpoints to this host, and opens it.
    pub(crate) async fn open_service(&self) -> Result<(Service, Sockets), AgentError> {
        let made = service::create(&self.netlink, &self.owner).await?;
        let mut datapath = self.datapath.lock().await;
        datapath.open_service(SERVICE_DEVICE).await?;
        Ok(made)
    }

    /// The same address on the host, where Docker is served: it tells all its containers of it, also those on
    /// other networks.
    pub(crate) async fn open_service_on_host(&self) -> Result<Option<Sockets>, AgentError> {
        let fallback = self.datapath.lock().await.fallback_ifindex;
        let wanted = self.config.docker.serve;
        service::on_host(&self.netlink, fallback, wanted).await?;
        Ok(wanted.then(Sockets::listen).transpose()?)
    }

    /// Takes the way away: who asks from now on is told at once that nobody is there.
    pub(crate) async fn close_service(&self) {
        if let Err(error) = service::remove(&self.netlink, &self.owner).await {
            tracing::warn!("{:#}", anyhow::Error::from(error));
        }
    }

    /// Shows why names are not served to somebody, and tells it once.
    pub(crate) fn note_names(&self, whom: &'static str, why: Option<String>) {
        let mut state = self.state();
        let problem = why.map(|why| Problem::Names { whom, why });
        if let Some(problem) = &problem
            && state.names.get(whom) != Some(problem)
        {
            tracing::warn!("{problem}");
        }
        match problem {
            Some(problem) => state.names.insert(whom, problem),
            None => state.names.remove(whom),
        };
    }
}
