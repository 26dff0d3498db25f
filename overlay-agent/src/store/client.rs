//! A thin typed client of Consul's HTTP API: keys, transactions, sessions.

mod build;
mod catalog;
mod kv;
mod sessions;
mod token;
mod txn;

use std::error::Error;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

pub use catalog::{Check, Health, Service};
pub use kv::{Answer, KvPair};
pub use sessions::SessionId;
pub use txn::{MAX_TXN_OPS, TxnOp};

use super::config::{ConfigError, StoreConfig};
use super::error::{StoreError, brief};
use super::health::StoreHealth;

/// Consul itself gives up on a missing leader after 7 s, so it gets to say so.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection pool to one store. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: RwLock<reqwest::Client>,
    config: StoreConfig,
    token: token::TokenSource,
    /// Tells requests that their connections lead nowhere any more.
    moved: watch::Sender<()>,
    base: Url,
    /// For messages.
    address: String,
    datacenter: Option<String>,
    health: Arc<StoreHealth>,
}

/// A whole answer of any status.
struct Reply {
    status: StatusCode,
    /// `X-Consul-Index`; on a 404 as well.
    index: Option<u64>,
    body: Vec<u8>,
}

impl Client {
    /// Reads the files that `config` names; connects when first used.
    pub fn new(config: &StoreConfig) -> Result<Self, ConfigError> {
        let build::Parts { http, base } = build::http(config)?;
        let token = token::TokenSource::new(config)?;
        Ok(Self {
            inner: Arc::new(Inner {
                http: RwLock::new(http),
                config: config.clone(),
                token,
                moved: watch::Sender::default(),
                base,
                address: config.address.to_string(),
                datacenter: config.datacenter.clone(),
                health: Arc::default(),
            }),
        })
    }

    /// Gives up every connection, and with them what is under way: their source address may be
    /// gone, which the kernel would find out much later.
    pub fn reconnect(&self) -> Result<(), ConfigError> {
        let build::Parts { http, .. } = build::http(&self.inner.config)?;
        *self
            .inner
            .http
            .write()
            .unwrap_or_else(PoisonError::into_inner) = http;
        self.inner.moved.send_replace(());
        Ok(())
    }

    pub fn health(&self) -> &Arc<StoreHealth> {
        &self.inner.health
    }

    /// The store's address, for people.
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// A request for `/v1/<api>/<path>`; `path` is percent-encoded here.
    fn request(&self, method: Method, api: &str, path: &str) -> RequestBuilder {
        let mut url = self.inner.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(api.split('/'));
            if !path.is_empty() {
                segments.extend(path.split('/'));
            }
        }
        if let Some(datacenter) = &self.inner.datacenter {
            url.query_pairs_mut().append_pair("dc", datacenter);
        }
        let http = self.inner.http.read();
        let request = http
            .unwrap_or_else(PoisonError::into_inner)
            .request(method, url)
            .timeout(REQUEST_TIMEOUT);
        match self.inner.token.header() {
            Some(token) => request.header("x-consul-token", token),
            None => request,
        }
    }

    /// How often the token file was found to hold another token.
    pub fn token_changes(&self) -> u64 {
        self.inner.token.changes()
    }

    /// Sends and reads the whole answer. `accepted` are the statuses that are the caller's to
    /// understand; any other than success is an error.
    async fn send(
        &self,
        request: RequestBuilder,
        action: impl Fn() -> String,
        accepted: &[StatusCode],
    ) -> Result<Reply, StoreError> {
        let mut moved = self.inner.moved.subscribe();
        let result = tokio::select! {
            result = self.exchange(request, &action, accepted) => result,
            _ = moved.changed() => Err(StoreError::Moved {
                action: action(),
                address: self.inner.address.clone(),
            }),
        };
        match &result {
            Ok(_) => self.inner.health.contact(),
            Err(error) => self.inner.health.failure(error),
        }
        result
    }

    async fn exchange(
        &self,
        request: RequestBuilder,
        action: impl Fn() -> String,
        accepted: &[StatusCode],
    ) -> Result<Reply, StoreError> {
        let lost = |source: reqwest::Error| {
            let (action, address) = (action(), self.inner.address.clone());
            // The error's own text would repeat the address, with all parameters.
            let source = source.without_url();
            if is_of_tls(&source) {
                StoreError::Untrusted {
                    action,
                    address,
                    source,
                }
            } else if source.is_connect() || source.is_builder() {
                StoreError::Unreachable {
                    action,
                    address,
                    source,
                }
            } else {
                StoreError::Interrupted {
                    action,
                    address,
                    source,
                }
            }
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(lost(error)),
        };
        let status = response.status();
        let index = response
            .headers()
            .get("x-consul-index")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let body = match response.bytes().await {
            Ok(body) => body.into(),
            Err(error) => return Err(lost(error)),
        };
        let reply = Reply {
            status,
            index,
            body,
        };
        if status.is_success() || accepted.contains(&status) {
            Ok(reply)
        } else {
            Err(StoreError::from_answer(action(), status, &reply.body))
        }
    }

    fn decode<T: DeserializeOwned>(
        &self,
        body: &[u8],
        action: impl Fn() -> String,
    ) -> Result<T, StoreError> {
        serde_json::from_slice(body).map_err(|error| {
            let error = StoreError::Decode {
                action: action(),
                detail: format!("{error}: {}", brief(body)),
            };
            self.inner.health.failure(&error);
            error
        })
    }
}

/// Whether TLS is what failed, here or, told by an alert, at the other end.
fn is_of_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(link) = next {
        if is_rustls(link) {
            return true;
        }
        next = link.source();
    }
    false
}

/// It comes wrapped in I/O errors, which do not count it as their source.
fn is_rustls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|inner| is_rustls(inner))
}
