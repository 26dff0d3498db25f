//! Containers of Docker's, or of what speaks its API, that somebody gives an interface by hand.

use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::engine::Engine;
use super::error::DockerError;
use crate::api::types::Container;

/// Finds a container that runs, by name, id or the id's first digits.
///
/// # Errors
/// When there is none, it does not run, or the daemon does not answer.
pub(crate) async fn container(socket: &Path, name: &str) -> Result<Container, DockerError> {
    let found = async { Engine::connect(socket).await?.running(name).await };
    let found = found.await.map_err(|error| match error {
        DockerError::Engine { .. } => DockerError::Unasked {
            container: name.to_owned(),
            source: Box::new(error),
        },
        error => error,
    })?;
    let process = processes(socket).await.join(found.pid.to_string());
    Ok(Container {
        id: found.id,
        name: found.name,
        netns: process.join("ns/net"),
    })
}

/// The folder of the processes as the daemon sees and numbers them: it may be in a container itself.
async fn processes(socket: &Path) -> PathBuf {
    let peer = UnixStream::connect(socket).await;
    let peer = peer.and_then(|stream| stream.peer_cred());
    let listener = peer.ok().and_then(|peer| peer.pid());
    // Where systemd listens for the daemon, that is systemd. It may be gone.
    listener
        .map(|pid| PathBuf::from(format!("/proc/{pid}/root/proc")))
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(|| "/proc".into())
}
