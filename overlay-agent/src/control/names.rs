//! The service that endpoints ask for names.

use super::agent::Agent;
use super::error::AgentError;
use super::problem::Problem;
use crate::host::service::{self, SERVICE_DEVICE, Service, Sockets};
use crate::names::{Asker, Names};

impl Agent {
    /// What names mean to this host's endpoints.
    pub(crate) fn names(&self) -> Names {
        let state = self.state();
        let locals = state.locals.values().filter(|local| !local.leaving);
        let askers: Vec<Asker> = locals
            .filter_map(|local| {
                Some(Asker {
                    ifindex: local.ifindex?,
                    net: local.vni,
                    container: local.record.container.clone(),
                })
            })
            .collect();
        Names::of(&askers, &state.view.networks, state.view.endpoints.iter())
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
        let wanted = self.config.docker.is_some();
        service::on_host(&self.netlink, fallback, wanted).await?;
        Ok(wanted.then(Sockets::listen).transpose()?)
    }

    /// Shows what is wrong, and tells it once.
    pub(crate) fn note_names(&self, problem: Option<Problem>) {
        let mut state = self.state();
        if let Some(problem) = problem.as_ref().filter(|_| problem != state.names) {
            tracing::warn!("{problem}");
        }
        state.names = problem;
    }
}
