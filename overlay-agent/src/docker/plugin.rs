//! The plugin socket: requests of Docker's daemon, one handler each.

pub(super) mod types;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::error::DockerError;
use super::{ADDRESS_SPACE, Docker, driver, ipam};

/// What the daemon is told at the latest after this time: it waits as long as a driver does not answer,
/// and everybody who asks it waits, too.
const DEADLINE: Duration = Duration::from_millis(4500);

type Shared = State<Arc<Docker>>;

/// Which part of libnetwork asks: each names errors in its own way.
#[derive(Clone, Copy, Debug)]
enum Part {
    Network,
    Ipam,
}

/// Serves until `shutdown` is done.
pub(super) async fn serve(
    listener: UnixListener,
    docker: Arc<Docker>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let said = |value: Value| post(move || async move { answer(&value) });
    let router = Router::new()
        .route(
            "/Plugin.Activate",
            said(json!({"Implements": ["NetworkDriver", "IpamDriver"]})),
        )
        .route(
            "/NetworkDriver.GetCapabilities",
            said(json!({"Scope": "local", "ConnectivityScope": "global"})),
        )
        .route(
            "/IpamDriver.GetCapabilities",
            said(json!({"RequiresMACAddress": false, "RequiresRequestReplay": true})),
        )
        // Equal ones keep the daemon from asking for pools until one pleases it.
        .route(
            "/IpamDriver.GetDefaultAddressSpaces",
            said(json!({
                "LocalDefaultAddressSpace": ADDRESS_SPACE,
                "GlobalDefaultAddressSpace": ADDRESS_SPACE,
            })),
        )
        .route(
            "/IpamDriver.RequestPool",
            call(Part::Ipam, |docker, asked| async move {
                ipam::request_pool(&docker, asked).await
            }),
        )
        .route(
            "/IpamDriver.ReleasePool",
            call(Part::Ipam, |docker, asked| async move {
                ipam::release_pool(&docker, &asked);
                Ok(json!({}))
            }),
        )
        .route(
            "/IpamDriver.RequestAddress",
            call(Part::Ipam, |docker, asked| async move {
                ipam::request_address(&docker, asked).await
            }),
        )
        .route(
            "/IpamDriver.ReleaseAddress",
            call(Part::Ipam, |docker, asked| async move {
                ipam::release_address(&docker, asked).await
            }),
        )
        .route(
            "/NetworkDriver.CreateNetwork",
            call(Part::Network, |docker, asked| async move {
                driver::create_network(&docker, asked).await
            }),
        )
        .route(
            "/NetworkDriver.DeleteNetwork",
            call(Part::Network, |docker, asked| async move {
                driver::delete_network(&docker, asked).await
            }),
        )
        .route(
            "/NetworkDriver.CreateEndpoint",
            call(Part::Network, |docker, asked| async move {
                driver::create_endpoint(&docker, asked).await
            }),
        )
        .route(
            "/NetworkDriver.DeleteEndpoint",
            call(Part::Network, |docker, asked| async move {
                driver::delete_endpoint(&docker, asked).await
            }),
        )
        .route("/NetworkDriver.EndpointOperInfo", said(json!({"Value": {}})))
        .route(
            "/NetworkDriver.Join",
            call(Part::Network, |docker, asked| async move {
                driver::join(&docker, &asked)
            }),
        )
        .route(
            "/NetworkDriver.Leave",
            call(Part::Network, |docker, asked| async move {
                Ok(driver::leave(&docker, &asked))
            }),
        )
        .route("/NetworkDriver.DiscoverNew", said(json!({})))
        .route("/NetworkDriver.DiscoverDelete", said(json!({})))
        .with_state(docker);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

/// A handler of one kind of request.
fn call<Q, A, F>(
    part: Part,
    work: impl FnOnce(Arc<Docker>, Q) -> F + Clone + Send + Sync + 'static,
) -> MethodRouter<Arc<Docker>>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    F: Future<Output = Result<A, DockerError>> + Send + 'static,
{
    post(move |State(docker): Shared, body: Bytes| async move {
        handle(&docker, part, &body, work).await
    })
}

/// Carries a request out to its end, also when the daemon is told that it takes too long: half an
/// endpoint is worse than one that nobody waits for.
async fn handle<Q, A, F>(
    docker: &Arc<Docker>,
    part: Part,
    body: &[u8],
    work: impl FnOnce(Arc<Docker>, Q) -> F,
) -> Response
where
    Q: DeserializeOwned,
    A: Serialize + Send + 'static,
    F: Future<Output = Result<A, DockerError>> + Send + 'static,
{
    // The daemon sends no content type.
    let asked = match serde_json::from_slice(body) {
        Ok(asked) => asked,
        // The daemon repeats what was broken off, and has nothing more to say.
        Err(_) if body.is_empty() => {
            docker.failed();
            return refusal(part, "the agent was started anew meanwhile: try again");
        }
        Err(error) => return refusal(part, &format!("the request is not understood: {error}")),
    };
    let mut work = tokio::spawn(work(Arc::clone(docker), asked));
    match tokio::time::timeout(DEADLINE, &mut work).await {
        Ok(Ok(Ok(value))) => answer(&value),
        Ok(Ok(Err(error))) => {
            docker.failed();
            let text = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!("Docker is told: {text}");
            refusal(part, &text)
        }
        Ok(Err(error)) => refusal(part, &format!("the agent broke off: {error}")),
        Err(_) => {
            let docker = Arc::clone(docker);
            // What it still does is Docker's no more.
            tokio::spawn(async move {
                let _ = work.await;
                docker.failed();
            });
            let text = "the agent has not done it in time: `overlay-agent status` says how the store \
                        is doing";
            tracing::warn!("Docker is told: {text}");
            refusal(part, text)
        }
    }
}

/// An error in the words of libnetwork: in a successful answer.
fn refusal(part: Part, text: &str) -> Response {
    match part {
        Part::Network => answer(&json!({"Err": text})),
        Part::Ipam => answer(&json!({"Error": text})),
    }
}

fn answer<A: Serialize>(value: &A) -> Response {
    const KIND: &str = "application/vnd.docker.plugins.v1.1+json";
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, KIND)], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
