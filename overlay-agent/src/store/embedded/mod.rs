//! The embedded store: Consul's HTTP API, as far as this program uses it, out of one file.
//!
//! It is for one machine and for trying things; on many machines Consul itself is the store. One
//! client talks to both, and the same requests get the same answers, as Consul 1.8 gives them.
//!
//! `state` knows the rules and nothing else, `disk` keeps the state durable, `engine` puts both
//! together with the blocked readers, and `http` is what a client sees.

mod disk;
mod engine;
mod error;
mod go_duration;
mod http;
mod state;
mod waiters;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use tokio::net::{TcpListener, UnixListener};

pub use self::error::EmbeddedError;

use self::engine::Engine;

/// An open store, not yet served.
#[derive(Debug)]
pub struct EmbeddedStore {
    engine: Arc<Engine>,
}

impl EmbeddedStore {
    /// Opens the store in the file `path`, or makes an empty one there.
    ///
    /// Keys and indexes are as they were; the sessions of before are ended and their locks
    /// released.
    ///
    /// # Errors
    /// The file cannot be opened, is used by another process, is something else, or is damaged.
    pub fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let engine = Arc::new(Engine::open(path)?);
        Ok(Self { engine })
    }

    /// Serves the store on `listener` until `shutdown` is done, then answers what still waits
    /// and closes the file.
    ///
    /// There is no access control: whoever reaches the listener may read and write everything.
    ///
    /// # Errors
    /// The listener fails, or the file cannot be closed.
    pub async fn serve_tcp(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), EmbeddedError> {
        let address = listener.local_addr().map_err(EmbeddedError::Serve)?;
        let listener = listener.tap_io(|stream| {
            // Answers are small and somebody waits for each of them.
            if let Err(err) = stream.set_nodelay(true) {
                tracing::debug!("set TCP_NODELAY: {err}");
            }
        });
        http::serve(self.engine, listener, address.to_string(), shutdown).await
    }

    /// [`Self::serve_tcp`] on a unix socket, which its file's mode can guard.
    ///
    /// # Errors
    /// The listener fails, or the file cannot be closed.
    pub async fn serve_unix(
        self,
        listener: UnixListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), EmbeddedError> {
        let address = listener.local_addr().map_err(EmbeddedError::Serve)?;
        let name = address
            .as_pathname()
            .map_or_else(String::new, |path| path.display().to_string());
        http::serve(self.engine, listener, format!("unix://{name}"), shutdown).await
    }
}
