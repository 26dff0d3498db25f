//! Endpoints of this host that an earlier run has made.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::agent::{Agent, LocalEndpoint, device_name};
use super::error::AgentError;
use super::follow::report;
use super::problem::Problem;
use super::queue::Queued;
use super::sync::Trust;
use crate::host::endpoint;
use crate::host::link::Link;
use crate::store::schema::{EndpointId, EndpointPath, EndpointRecord};

impl Agent {
    /// Takes over the endpoints that the store has, and the snapshot that was used at first had not.
    pub(super) async fn adopt_others(self: Arc<Self>) {
        // Those that are being made or removed are somebody's.
        let _one_at_a_time = self.operations.lock().await;
        let adopted = match self.adopt().await {
            Ok(()) => self.sync(Trust::Memory).await,
            error => error,
        };
        if let Err(error) = adopted {
            report("take over this host's endpoints", error);
        }
    }

    /// Takes over the endpoints that an earlier run has left on this host. Those whose device is
    /// gone are known too, so that they can be removed.
    pub(super) async fn adopt(self: &Arc<Self>) -> Result<(), AgentError> {
        let unfinished = self.unfinished();
        let devices = endpoint::list(&self.netlink, &self.owner).await?;
        let published: Vec<_> = {
            let state = self.state();
            let all = state.view.endpoints.iter();
            all.filter(|(path, _)| path.node == self.node)
                .filter(|(path, _)| !state.locals.contains_key(&path.id))
                .filter(|(path, _)| !state.queue.contains_key(&path.id))
                .map(|(path, record)| (path.clone(), record.clone()))
                .collect()
        };
        let queued: Vec<_> = {
            let state = self.state();
            let queue = state.queue.iter();
            let new = queue.filter(|(id, _)| !state.locals.contains_key(*id));
            new.map(|(id, queued)| (id.clone(), queued.clone()))
                .collect()
        };
        let ours: BTreeSet<String> = {
            let state = self.state();
            let ids = published.iter().map(|(path, _)| &path.id);
            let ids = ids.chain(state.locals.keys()).chain(state.queue.keys());
            let ids = ids.chain(unfinished.iter().map(|path| &path.id));
            ids.map(ToString::to_string).collect()
        };
        let known = |id: &str| ours.contains(id);
        let orphans = devices
            .iter()
            .filter(|(id, _)| !known(id))
            .map(|(id, link)| {
                let problem = Problem::Orphan {
                    endpoint: id.clone(),
                    device: link.name.clone(),
                };
                tracing::warn!("{problem}");
                problem
            });
        let orphans = orphans.collect();
        self.state().orphans = orphans;
        for (path, record) in published {
            self.witness.published(path.clone());
            self.take_over(path, record, &devices).await?;
        }
        for (id, queued) in queued {
            if queued.is_removal() {
                self.finish_removal(&id, &devices).await?;
            } else {
                let path = self.own_path(queued.net, &id);
                self.take_over(path, queued.record, &devices).await?;
            }
        }
        // Whether the store has them, a snapshot does not tell.
        if !self.state().view.is_own_old() {
            self.finish(unfinished);
        }
        Ok(())
    }

    /// One whose device may be gone.
    async fn take_over(
        &self,
        path: EndpointPath,
        record: EndpointRecord,
        devices: &[(String, Link)],
    ) -> Result<(), AgentError> {
        let ifindex = match device_of(&path.id, devices) {
            Some(device) => Some(self.datapath.lock().await.attach_endpoint(device).await?),
            None => None,
        };
        let mut state = self.state();
        let queued = state.queue.get(&path.id);
        let local = LocalEndpoint {
            vni: path.net,
            record,
            device: device_name(&path.id),
            ifindex,
            mtu: 0,
            open: false,
            seen: queued.is_none(),
            leaving: queued.is_some_and(Queued::is_lost),
            made: None,
        };
        state.locals.insert(path.id, local);
        Ok(())
    }

    /// One that was removed while the store was away, and perhaps not to the end.
    async fn finish_removal(
        &self,
        id: &EndpointId,
        devices: &[(String, Link)],
    ) -> Result<(), AgentError> {
        let Some(device) = device_of(id, devices) else {
            return Ok(());
        };
        endpoint::close(&self.netlink, &self.owner, device).await?;
        endpoint::remove(&self.netlink, &self.owner, device).await?;
        Ok(self.datapath.lock().await.detach_endpoint(device)?)
    }
}

fn device_of<'a>(id: &EndpointId, devices: &'a [(String, Link)]) -> Option<&'a str> {
    let (id, mut devices) = (id.to_string(), devices.iter());
    let found = devices.find(|(of, _)| *of == id);
    found.map(|(_, link)| link.name.as_str())
}
