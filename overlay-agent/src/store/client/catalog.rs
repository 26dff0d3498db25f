//! The part of a Consul agent's API by which a service is shown in the catalog. The embedded store has none.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Serialize;

use super::Client;
use crate::store::error::{StoreError, brief};

/// A service with one check, which is critical unless it is told otherwise in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Distinct among all that are registered with one Consul agent.
    #[serde(rename = "ID")]
    pub id: String,
    pub name: String,
    pub address: Option<IpAddr>,
    pub port: u16,
    pub meta: BTreeMap<String, String>,
    pub check: Check,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    #[serde(rename = "CheckID")]
    pub id: String,
    pub name: String,
    #[serde(rename = "TTL", serialize_with = "seconds")]
    pub ttl: Duration,
    /// How long it is critical before the service is removed; Consul takes no less than a minute.
    #[serde(serialize_with = "seconds")]
    pub deregister_critical_service_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Passing,
    Warning,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update<'a> {
    status: Health,
    output: &'a str,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}s", time.as_secs()))
}

impl Client {
    /// Registers a service, or again. `false` where there is no catalog.
    pub async fn service_register(&self, service: &Service) -> Result<bool, StoreError> {
        let action = || format!("register the service {}", service.id);
        let request = self.request(Method::PUT, "agent/service/register", "");
        let request = request.json(service);
        let reply = self.send(request, action, &[StatusCode::NOT_FOUND]).await?;
        Ok(reply.status != StatusCode::NOT_FOUND)
    }

    /// Says how a service is. `false` when the Consul agent does not know the check (any more).
    pub async fn check_update(
        &self,
        check: &str,
        status: Health,
        output: &str,
    ) -> Result<bool, StoreError> {
        let action = || format!("update the check {check}");
        let request = self.request(Method::PUT, "agent/check/update", check);
        let request = request.json(&Update { status, output });
        // Which of the two it is depends on Consul's version.
        let unknown = [StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR];
        let reply = self.send(request, action, &unknown).await?;
        if reply.status.is_success() {
            return Ok(true);
        }
        let says = brief(&reply.body);
        if reply.status == StatusCode::NOT_FOUND
            || says.contains("Unknown check")
            || says.contains("does not have associated TTL")
        {
            return Ok(false);
        }
        let error = StoreError::from_answer(action(), reply.status, &reply.body);
        self.health().failure(&error);
        Err(error)
    }

    /// Takes a service out; one that is not there is no error.
    pub async fn service_deregister(&self, id: &str) -> Result<(), StoreError> {
        let action = || format!("deregister the service {id}");
        let request = self.request(Method::PUT, "agent/service/deregister", id);
        let gone = [StatusCode::NOT_FOUND];
        self.send(request, action, &gone).await.map(drop)
    }
}
