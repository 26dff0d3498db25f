//! What a client may ask to see whom it talks to.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::reply::{self, Failure};

/// The one node there is.
pub(super) const NODE_NAME: &str = "embedded";

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AgentSelf {
    config: Config,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    datacenter: &'static str,
    node_name: &'static str,
    server: bool,
    /// Of this program, not of a Consul.
    version: &'static str,
}

pub(super) fn agent_self() -> Result<Response, Failure> {
    let config = Config {
        datacenter: NODE_NAME,
        node_name: NODE_NAME,
        server: true,
        version: env!("CARGO_PKG_VERSION"),
    };
    reply::json(StatusCode::OK, &AgentSelf { config })
}
