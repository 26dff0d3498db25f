//! The store's address in the forms that people write.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

/// Consul's HTTP port.
const DEFAULT_PORT: u16 = 8500;

/// Where the store listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `http` or `https`, without query; a path is kept and put before the API's.
    Url(Url),
    /// A unix socket that speaks HTTP.
    Unix(PathBuf),
}

impl Address {
    /// Parses `consul://H:P`, `http://…`, `https://…`, `unix:///PATH` or a bare `H[:P]`, which
    /// is `https` if `ssl`. The second value is the datacenter of a `?dc=` query.
    pub(super) fn parse(given: &str, ssl: bool) -> Result<(Self, Option<String>), String> {
        if let Some(path) = given.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok((Self::Unix(path.into()), None))
            } else {
                Err("a unix socket needs an absolute path".to_owned())
            };
        }
        let bare = if ssl { "https" } else { "http" };
        // A default port belongs to Consul's own notation, not to URLs.
        let (scheme, rest, port) = match given.split_once("://") {
            Some(("consul", rest)) => ("http", rest, Some(DEFAULT_PORT)),
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest, None),
            Some((scheme, _)) => return Err(format!("the scheme `{scheme}` is unknown")),
            None => (bare, given, Some(DEFAULT_PORT)),
        };
        let mut url =
            Url::parse(&format!("{scheme}://{rest}")).map_err(|error| error.to_string())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it carries credentials; use CONSUL_HTTP_TOKEN".to_owned());
        }
        if let Some(port) = port
            && !names_port(rest)
        {
            url.set_port(Some(port))
                .map_err(|()| "it cannot have a port".to_owned())?;
        }
        let mut datacenter = None;
        for (key, value) in url.query_pairs() {
            if key != "dc" || value.is_empty() {
                return Err(format!("the parameter `{key}` is unknown"));
            }
            datacenter = Some(value.into_owned());
        }
        url.set_query(None);
        url.set_fragment(None);
        Ok((Self::Url(url), datacenter))
    }
}

/// Whether the authority part ends with a port; `Url` forgets one that is the scheme's default.
fn names_port(rest: &str) -> bool {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let after_host = match rest[..end].rsplit_once(']') {
        Some((_, after)) => after,
        None => &rest[..end],
    };
    after_host.contains(':')
}

/// For error messages: what precedes an `@` may be a password.
pub(super) fn without_credentials(given: &str) -> String {
    match given.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => given.to_owned(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}
