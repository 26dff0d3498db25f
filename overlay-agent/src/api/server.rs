//! The agent's side.

use std::future::Future;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::UnixListener;

use super::types::{
    Address, Container, Endpoint, EndpointRequest, Failure, Network, NetworkRequest, Node,
    NodeDetail, NodeRequest, Status,
};
use crate::control::agent::Agent;
use crate::control::error::{AgentError, Blame};
use crate::datapath::Difference;
use crate::docker::{self, DockerError};

type Shared = State<Arc<Agent>>;
type Answer<T> = Result<Json<T>, Refusal>;

/// Serves until `shutdown` is done.
pub async fn serve(
    listener: UnixListener,
    agent: Arc<Agent>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/plan", get(plan))
        .route("/v1/networks", get(networks).post(create_network))
        .route("/v1/networks/{name}", get(network).delete(remove_network))
        .route("/v1/endpoints", get(endpoints).post(add_endpoint))
        .route(
            "/v1/endpoints/{name}",
            get(endpoint).delete(remove_endpoint),
        )
        .route("/v1/containers/{name}", get(container))
        .route("/v1/addresses", get(addresses))
        .route("/v1/addresses/{network}", get(addresses))
        .route("/v1/leaks", get(leaks).post(reclaim))
        .route("/v1/leaks/{network}", get(leaks).post(reclaim))
        .route("/v1/nodes", get(nodes).post(add_node))
        .route("/v1/nodes/{name}", get(node).delete(forget_node))
        .with_state(agent);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

/// An error on its way to the user.
struct Refusal(StatusCode, String);

impl From<AgentError> for Refusal {
    fn from(error: AgentError) -> Self {
        let status = match error.blame() {
            Blame::Missing => StatusCode::NOT_FOUND,
            Blame::Request => StatusCode::CONFLICT,
            Blame::Store => StatusCode::SERVICE_UNAVAILABLE,
            Blame::Host => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, format!("{:#}", anyhow::Error::from(error)))
    }
}

impl From<DockerError> for Refusal {
    fn from(error: DockerError) -> Self {
        let status = match &error {
            DockerError::NoContainer(_) => StatusCode::NOT_FOUND,
            DockerError::NotRunning(_) => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, format!("{:#}", anyhow::Error::from(error)))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Failure { error: self.1 })).into_response()
    }
}

/// Carries a change out to its end, also when the client goes away: half an endpoint is worse
/// than one that nobody waits for.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, AgentError>> + Send + 'static,
) -> Answer<T> {
    match tokio::spawn(change).await {
        Ok(result) => Ok(Json(result?)),
        Err(error) => Err(Refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the change was broken off: {error}"),
        )),
    }
}

async fn status(State(agent): Shared) -> Json<Status> {
    Json(agent.status().await)
}

async fn plan(State(agent): Shared) -> Answer<Vec<Difference>> {
    Ok(Json(agent.differences().await?))
}

async fn networks(State(agent): Shared) -> Answer<Vec<Network>> {
    Ok(Json(agent.networks().await?))
}

async fn network(State(agent): Shared, Path(name): Path<String>) -> Answer<Network> {
    Ok(Json(agent.network_named(&name).await?))
}

async fn create_network(
    State(agent): Shared,
    Json(request): Json<NetworkRequest>,
) -> Answer<Network> {
    to_the_end(async move { agent.create_network(request).await }).await
}

async fn remove_network(State(agent): Shared, Path(name): Path<String>) -> Answer<()> {
    to_the_end(async move { agent.remove_network(&name).await }).await
}

async fn endpoints(State(agent): Shared) -> Answer<Vec<Endpoint>> {
    Ok(Json(agent.endpoints().await?))
}

async fn endpoint(State(agent): Shared, Path(name): Path<String>) -> Answer<Endpoint> {
    Ok(Json(agent.endpoint(&name).await?))
}

async fn add_endpoint(
    State(agent): Shared,
    Json(request): Json<EndpointRequest>,
) -> Answer<Endpoint> {
    to_the_end(async move { agent.add_endpoint(request).await }).await
}

async fn remove_endpoint(State(agent): Shared, Path(name): Path<String>) -> Answer<()> {
    to_the_end(async move { agent.remove_endpoint(&name).await }).await
}

async fn container(State(agent): Shared, Path(name): Path<String>) -> Answer<Container> {
    let socket = &agent.config.docker.socket;
    Ok(Json(docker::container(socket, &name).await?))
}

async fn addresses(State(agent): Shared, network: Option<Path<String>>) -> Answer<Vec<Address>> {
    Ok(Json(
        agent
            .addresses(network.as_deref().map(String::as_str))
            .await?,
    ))
}

async fn leaks(State(agent): Shared, network: Option<Path<String>>) -> Answer<Vec<Address>> {
    Ok(Json(
        agent.leaks(network.as_deref().map(String::as_str)).await?,
    ))
}

async fn reclaim(State(agent): Shared, network: Option<Path<String>>) -> Answer<Vec<Address>> {
    let network = network.map(|Path(name)| name);
    to_the_end(async move { agent.reclaim(network.as_deref()).await }).await
}

async fn nodes(State(agent): Shared) -> Answer<Vec<Node>> {
    Ok(Json(agent.nodes()?))
}

async fn add_node(State(agent): Shared, Json(request): Json<NodeRequest>) -> Answer<Node> {
    to_the_end(async move { agent.add_node(request).await }).await
}

async fn node(State(agent): Shared, Path(name): Path<String>) -> Answer<NodeDetail> {
    Ok(Json(agent.node_named(&name).await?))
}

async fn forget_node(State(agent): Shared, Path(name): Path<String>) -> Answer<()> {
    to_the_end(async move { agent.forget_node(&name).await }).await
}
