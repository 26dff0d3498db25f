//! Setting up the HTTP client: addresses, headers, certificates.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Identity, Url};

use super::super::config::{Address, ConfigError, StoreConfig, TlsConfig};

pub(super) struct Parts {
    pub(super) http: reqwest::Client,
    pub(super) base: Url,
}

pub(super) fn http(config: &StoreConfig) -> Result<Parts, ConfigError> {
    // Fails when a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .default_headers(headers(config)?)
        // The store is part of the underlay; a proxy would cut long polls short.
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        // Finds a dead server under a blocking query, which is silent for a minute by design.
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_keepalive_interval(Duration::from_secs(5))
        .tcp_keepalive_retries(3)
        // Consul closes what exceeds 200 connections per source address without a word.
        .pool_max_idle_per_host(4);
    let (builder, base) = match &config.address {
        Address::Unix(path) => (
            // No certificate is looked at, so no trust store is loaded.
            builder.tls_certs_only([]).unix_socket(path.as_path()),
            Url::parse("http://localhost").map_err(|error| ConfigError::Address {
                given: config.address.to_string(),
                origin: "unix socket",
                why: error.to_string(),
            })?,
        ),
        Address::Url(url) if url.scheme() == "https" => tls(builder, url.clone(), &config.tls)?,
        Address::Url(url) => (builder.tls_certs_only([]), url.clone()),
    };
    let http = builder.build().map_err(ConfigError::Client)?;
    Ok(Parts { http, base })
}

fn headers(config: &StoreConfig) -> Result<HeaderMap, ConfigError> {
    let mut headers = HeaderMap::new();
    if let Some(namespace) = &config.namespace {
        let value = HeaderValue::from_str(namespace)
            .map_err(|_| ConfigError::Header { what: "namespace" })?;
        headers.insert(HeaderName::from_static("x-consul-namespace"), value);
    }
    Ok(headers)
}

fn tls(
    mut builder: ClientBuilder,
    mut base: Url,
    tls: &TlsConfig,
) -> Result<(ClientBuilder, Url), ConfigError> {
    if let Some(path) = &tls.ca_cert {
        let what = "the CA certificate";
        let pem = read(what, path)?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|source| ConfigError::Pem {
                what,
                path: path.clone(),
                source,
            })?;
        builder = builder.tls_certs_only(certificates);
    }
    if let Some((certificate, key)) = &tls.client {
        let what = "the client certificate and key";
        let mut pem = read("the client certificate", certificate)?;
        pem.push(b'\n');
        pem.extend(read("the client key", key)?);
        let identity = Identity::from_pem(&pem).map_err(|source| ConfigError::Pem {
            what,
            path: key.clone(),
            source,
        })?;
        builder = builder.identity(identity);
    }
    if !tls.verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    // The name that is verified is the URL's host; so the URL gets the wanted name, and
    // resolving that name gives the real host.
    if let Some(name) = &tls.server_name {
        let host = base
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned();
        base.set_host(Some(name))
            .map_err(|error| ConfigError::Address {
                given: name.clone(),
                origin: "CONSUL_TLS_SERVER_NAME",
                why: error.to_string(),
            })?;
        builder = builder.dns_resolver(Arc::new(RealHost(host.into())));
    }
    Ok((builder, base))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

/// Resolves every name to one host.
struct RealHost(Arc<str>);

impl Resolve for RealHost {
    fn resolve(&self, _: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            // Port 0 is replaced by the URL's.
            let found: Vec<_> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
