//! Sessions: leases that keys can be locked with.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::Client;
use crate::store::error::StoreError;

/// A session's id, a UUID in text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// An id that was kept elsewhere; whether the session exists is for the store to say.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewSession<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'a str,
    lock_delay: &'a str,
    node_checks: [&'a str; 0],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    #[serde(rename = "ID")]
    id: SessionId,
}

impl Client {
    /// Makes a session that releases its locks when it ends: by `ttl` (10 s to 24 h, and up to
    /// twice that in fact) without renewal. It does not hang on the health of a Consul node.
    pub async fn session_create(&self, name: &str, ttl: Duration) -> Result<SessionId, StoreError> {
        let action = || format!("create the session `{name}`");
        let body = NewSession {
            name,
            ttl: format!("{}s", ttl.as_secs()),
            behavior: "release",
            lock_delay: "0s",
            node_checks: [],
        };
        let request = self.request(Method::PUT, "session/create", "").json(&body);
        let reply = self.send(request, action, &[]).await?;
        let created: Created = self.decode(&reply.body, action)?;
        Ok(created.id)
    }

    /// `false` when the session does not exist any more.
    pub async fn session_renew(&self, id: &SessionId) -> Result<bool, StoreError> {
        let action = || format!("renew the session {id}");
        let request = self.request(Method::PUT, "session/renew", id.as_str());
        let reply = self.send(request, action, &[StatusCode::NOT_FOUND]).await?;
        Ok(reply.status != StatusCode::NOT_FOUND)
    }

    /// Ends a session, which releases its locks; one that is gone is no error.
    pub async fn session_destroy(&self, id: &SessionId) -> Result<(), StoreError> {
        let action = || format!("end the session {id}");
        let request = self.request(Method::PUT, "session/destroy", id.as_str());
        self.send(request, action, &[]).await.map(drop)
    }
}
