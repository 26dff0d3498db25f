//! Endpoints of this host that an earlier run has made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::agent::{Agent, LocalEndpoint, device_name};
use super::error::AgentError;
use super::follow::report;
use super::problem::Problem;
use super::sync::Trust;
use crate::host::endpoint;

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
    pub(super) async fn adopt(&self) -> Result<(), AgentError> {
        let devices = endpoint::list(&self.netlink, &self.owner).await?;
        let published: Vec<_> = {
            let state = self.state();
            let all = state.view.endpoints.iter();
            all.filter(|(path, _)| path.node == self.node)
                .filter(|(path, _)| !state.locals.contains_key(&path.id))
                .map(|(path, record)| (path.clone(), record.clone()))
                .collect()
        };
        let ours: BTreeSet<String> = {
            let state = self.state();
            let ids = published.iter().map(|(path, _)| &path.id);
            ids.chain(state.locals.keys())
                .map(ToString::to_string)
                .collect()
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
            let device = device_name(&path.id);
            let found = devices.iter().find(|(id, _)| *id == path.id.as_str());
            let ifindex = match found {
                Some((_, link)) => Some(
                    self.datapath
                        .lock()
                        .await
                        .attach_endpoint(&link.name)
                        .await?,
                ),
                None => None,
            };
            self.witness.published(path.clone());
            let local = LocalEndpoint {
                vni: path.net,
                record,
                device,
                ifindex,
                mtu: 0,
                open: false,
                seen: true,
                leaving: false,
                // Of an earlier run.
                since: SystemTime::UNIX_EPOCH,
            };
            self.state().locals.insert(path.id, local);
        }
        Ok(())
    }
}
