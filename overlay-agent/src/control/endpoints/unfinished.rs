//! What the next run has to know of an endpoint that is being made or removed, in case that this one is killed
//! meanwhile: that it was begun. What has come of it by then is on the host and in the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use overlay_common::net::Vni;

use super::owner;
use crate::control::agent::{Agent, device_name};
use crate::control::error::AgentError;
use crate::store::backoff::Backoff;
use crate::store::schema::{EndpointId, EndpointPath};

/// Of the state directory; an empty file for each endpoint.
const FOLDER: &str = "unfinished";

impl Agent {
    /// Notes that something of an endpoint may be there until it is [`Self::finished`].
    pub(super) fn begun(&self, path: &EndpointPath) {
        let folder = self.config.state_dir.join(FOLDER);
        let file = folder.join(file_name(path));
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, ""));
        if let Err(error) = written {
            // It is needed only if the agent is killed in this very moment.
            tracing::warn!("cannot write {}: {error}", file.display());
        }
    }

    pub(super) fn finished(&self, path: &EndpointPath) {
        let file = self.config.state_dir.join(FOLDER).join(file_name(path));
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", file.display());
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// What an earlier run of this host has begun and not finished.
    pub(crate) fn unfinished(&self) -> Vec<EndpointPath> {
        let names = names(&self.config.state_dir.join(FOLDER));
        let of = |(net, id)| self.own_path(net, &id);
        names
            .iter()
            .filter_map(|name| parse(name))
            .map(of)
            .collect()
    }

    /// Keeps what is in the store, and takes away what is left of all else: it was asked for by a command that
    /// has failed, or was to be removed. `paths` are those of before this run's commands.
    pub(crate) fn finish(self: &Arc<Self>, paths: Vec<EndpointPath>) {
        for path in paths {
            let is_settled = {
                let state = self.state();
                state.view.endpoints.contains_key(&path) || state.queue.contains_key(&path.id)
            };
            if is_settled {
                self.finished(&path);
                continue;
            }
            let agent = Arc::clone(self);
            tokio::spawn(async move {
                let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
                while let Err(error) = agent.try_finish(&path).await {
                    tracing::debug!("endpoint {} is not all gone: {error}", path.id);
                    backoff.wait().await;
                }
                agent.finished(&path);
                tracing::info!("removed endpoint {}, which was not finished", path.id);
            });
        }
    }

    async fn try_finish(&self, path: &EndpointPath) -> Result<(), AgentError> {
        // A copy of the state directory on another host has the note as well.
        self.require_registered().await?;
        let _one_at_a_time = self.operations.lock().await;
        // A write of before may have come late.
        self.registry.withdraw_endpoint(path).await?;
        self.dismantle(&device_name(&path.id)).await?;
        let id = path.id.to_string();
        self.state().orphans.retain(|problem| !problem.is_of(&id));
        for (ip, record) in self.ipam.held(path.net, self.node).await? {
            if record.endpoint == id {
                self.let_go(path.net, ip, &owner(path), Some(record.nonce), None)
                    .await?;
            }
        }
        Ok(())
    }
}

fn file_name(path: &EndpointPath) -> String {
    format!("{}-{}", path.net, path.id)
}

fn parse(name: &str) -> Option<(Vni, EndpointId)> {
    let (net, id) = name.split_once('-')?;
    Some((Vni::new(net.parse().ok()?)?, id.parse().ok()?))
}

/// Of the files in a folder, which need not be there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| PathBuf::from(entry.file_name()));
    names.map(|name| name.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::NodeId;

    #[test]
    fn a_name_says_which_endpoint() {
        let net = Vni::new(16_000_000).unwrap();
        let id = EndpointId::random();
        let path = EndpointPath {
            node: NodeId::new(1),
            net,
            id: id.clone(),
        };
        assert_eq!(parse(&file_name(&path)), Some((net, id)));
        for other in ["", "1", "0-aaaaaaaaaaaaaaaa", "1-", "x-aaaaaaaaaaaaaaaa"] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert!(names(Path::new("/nonexistent")).is_empty());
    }
}
