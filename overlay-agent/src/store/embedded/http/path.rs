//! From a request's path to what it is about.

use axum::http::Uri;

use super::reply::Failure;
use crate::store::embedded::state::Key;

/// What there is to ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Kv(Key),
    Txn,
    SessionCreate,
    SessionDestroy(String),
    SessionRenew(String),
    SessionInfo(String),
    SessionList,
    StatusLeader,
    AgentSelf,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Resource(Resource),
    /// To the same thing under its proper name, which the client has to ask for.
    Elsewhere(String),
}

impl Resource {
    /// The methods it takes, as the `Allow` header lists them.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Kv(_) => "OPTIONS,GET,PUT,DELETE",
            Self::Txn | Self::SessionCreate | Self::SessionDestroy(_) | Self::SessionRenew(_) => {
                "OPTIONS,PUT"
            }
            Self::SessionInfo(_) | Self::SessionList | Self::StatusLeader | Self::AgentSelf => {
                "OPTIONS,GET"
            }
        }
    }

    fn of(path: &[u8]) -> Option<Self> {
        if let Some(key) = path.strip_prefix(b"/v1/kv/") {
            return Some(Self::Kv(key.into()));
        }
        let path = str::from_utf8(path).ok()?;
        let rest = |prefix| path.strip_prefix(prefix).map(str::to_owned);
        match path {
            "/v1/txn" => return Some(Self::Txn),
            "/v1/session/create" => return Some(Self::SessionCreate),
            "/v1/session/list" => return Some(Self::SessionList),
            "/v1/status/leader" => return Some(Self::StatusLeader),
            "/v1/agent/self" => return Some(Self::AgentSelf),
            _ => {}
        }
        rest("/v1/session/destroy/")
            .map(Self::SessionDestroy)
            .or_else(|| rest("/v1/session/renew/").map(Self::SessionRenew))
            .or_else(|| rest("/v1/session/info/").map(Self::SessionInfo))
    }
}

impl Target {
    /// Reads the path of a request.
    ///
    /// # Errors
    /// A path that cannot be read (400), or that leads nowhere (404).
    pub(super) fn of(uri: &Uri) -> Result<Self, Failure> {
        let path = decode(uri.path()).ok_or_else(|| Failure::bad_request("400 Bad Request"))?;
        if !is_printable(&path) {
            return Err(Failure::bad_request(""));
        }
        // Consul's router does not take such paths as they are either, so no key has "//" in it.
        let proper = clean(&path);
        if proper != path {
            let query = uri
                .query()
                .map_or(String::new(), |query| format!("?{query}"));
            return Ok(Self::Elsewhere(encode(&proper) + &query));
        }
        let resource = Resource::of(&path).ok_or_else(Failure::not_found)?;
        Ok(Self::Resource(resource))
    }
}

/// Undoes percent-encoding. `None`: a `%` without two digits.
fn decode(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        };
        decoded.push(byte);
    }
    Some(decoded)
}

fn encode(path: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(path.len());
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~/$&+,:;=@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Bytes that are no UTF-8 pass, as they do in Consul.
fn is_printable(path: &[u8]) -> bool {
    String::from_utf8_lossy(path)
        .chars()
        .all(|c| !c.is_control() && (c == ' ' || !c.is_whitespace()))
}

/// Without empty segments, `.` and `..`, and with the slash that `/v1/kv` lacks.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.split(|byte| *byte == b'/') {
        ends_in_slash = segment.is_empty();
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut clean = vec![b'/'];
    clean.extend(segments.join(&b'/'));
    if (ends_in_slash && clean != b"/") || clean == b"/v1/kv" {
        clean.push(b'/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Result<Target, u16> {
        let uri: Uri = uri.parse().unwrap();
        Target::of(&uri).map_err(|failure| failure.status().as_u16())
    }

    #[test]
    fn paths_lead_where_consul_leads_them() {
        let kv = |key: &[u8]| Ok(Target::Resource(Resource::Kv(key.into())));
        let id = || "x".to_owned();
        let elsewhere = |path: &str| Ok(Target::Elsewhere(path.to_owned()));
        for (uri, expected) in [
            ("/v1/kv/", kv(b"")),
            ("/v1/kv/a", kv(b"a")),
            ("/v1/kv/a/", kv(b"a/")),
            ("/v1/kv/a%20b+c%2Fd?recurse", kv(b"a b+c/d")),
            ("/v1/kv/%ff", kv(b"\xff")),
            ("/v1/kv", elsewhere("/v1/kv/")),
            ("/v1/kv/a//b?raw", elsewhere("/v1/kv/a/b?raw")),
            ("/v1/kv/a/%2fb%20", elsewhere("/v1/kv/a/b%20")),
            ("/v1/kv/a/../b", elsewhere("/v1/kv/b")),
            ("/v1/kv/a/./b/", elsewhere("/v1/kv/a/b/")),
            ("/v1/kv/%zz", Err(400)),
            ("/v1/kv/%2", Err(400)),
            ("/v1/kv/a%00", Err(400)),
            ("/v1/kv/a%c2%a0", Err(400)),
            ("/v1/txn", Ok(Target::Resource(Resource::Txn))),
            ("/v1/txn/", Err(404)),
            (
                "/v1/session/info/x",
                Ok(Target::Resource(Resource::SessionInfo(id()))),
            ),
            (
                "/v1/session/renew/x",
                Ok(Target::Resource(Resource::SessionRenew(id()))),
            ),
            (
                "/v1/session/destroy/x",
                Ok(Target::Resource(Resource::SessionDestroy(id()))),
            ),
            ("/v1/catalog/nodes", Err(404)),
            ("/v2/kv/a", Err(404)),
            ("/", Err(404)),
        ] {
            assert_eq!(target(uri), expected, "{uri}");
        }
    }
}
