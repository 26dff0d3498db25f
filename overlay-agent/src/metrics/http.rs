//! `/metrics`, `/healthz` and `/readyz`.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use thiserror::Error;
use tokio::net::TcpListener;

use super::Metrics;

/// Why there are no metrics.
#[derive(Debug, Error)]
#[error("cannot serve metrics on {address}: choose another address with --metrics-addr")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What the endpoints answer from.
#[derive(Clone, Debug)]
pub struct Served {
    pub metrics: Arc<Metrics>,
    /// Whether the data path has been brought in line with the store once.
    pub ready: Arc<AtomicBool>,
}

/// Takes the address, so that a start fails early when it is in use.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError { address, source })
}

/// Serves until `shutdown` is done.
pub async fn serve(
    listener: TcpListener,
    served: Served,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(served);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn metrics(State(served): State<Served>) -> Response {
    match served.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!("metrics cannot be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn ready(State(served): State<Served>) -> (StatusCode, &'static str) {
    if served.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        let why = "waiting for the store: the data path is not in line with it yet\n";
        (StatusCode::SERVICE_UNAVAILABLE, why)
    }
}
