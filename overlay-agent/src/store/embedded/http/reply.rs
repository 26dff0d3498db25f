//! Answers: JSON, the headers that carry the index, and failures as one line of text.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use crate::store::embedded::error::EmbeddedError;
use crate::store::embedded::state::{Entry, SessionId};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");

/// A request that is not answered with what it asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    text: String,
    allow: Option<&'static str>,
}

impl Failure {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            allow: None,
        }
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "")
    }

    pub(super) fn no_session(text: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn too_large(text: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    pub(super) fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    pub(super) fn method_not_allowed(method: &Method, allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("method {method} not allowed"),
            )
        }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<EmbeddedError> for Failure {
    fn from(err: EmbeddedError) -> Self {
        tracing::error!("{err}");
        Self::internal(err.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text).into_response();
        if let Some(allow) = self.allow {
            let allow = HeaderValue::from_static(allow);
            response.headers_mut().insert(header::ALLOW, allow);
        }
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read, so nothing can follow it on this connection.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

/// The headers of a read.
pub(super) fn meta(index: u64) -> HeaderMap {
    let mut headers = consistency();
    headers.insert(INDEX, index.into());
    headers
}

/// The headers that say how fresh an answer is: there is one server, so always fresh.
pub(super) fn consistency() -> HeaderMap {
    HeaderMap::from_iter([
        (KNOWN_LEADER, HeaderValue::from_static("true")),
        (LAST_CONTACT, HeaderValue::from_static("0")),
    ])
}

/// An answer in JSON.
///
/// # Errors
/// What was to be answered cannot be written as JSON.
pub(super) fn json(
    status: StatusCode,
    body: &(impl Serialize + ?Sized),
) -> Result<Response, Failure> {
    let body = serde_json::to_vec(body).map_err(|err| Failure::internal(err.to_string()))?;
    Ok((status, [(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// An entry as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EntryView<'a> {
    lock_index: u64,
    #[serde(serialize_with = "as_text")]
    key: &'a [u8],
    flags: u64,
    #[serde(serialize_with = "as_base64")]
    value: &'a [u8],
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    create_index: u64,
    modify_index: u64,
}

impl<'a> EntryView<'a> {
    pub(super) fn new(key: &'a [u8], entry: &'a Entry) -> Self {
        Self {
            lock_index: entry.lock_index,
            key,
            flags: entry.flags,
            value: &entry.value,
            session: entry.session,
            create_index: entry.create_index,
            modify_index: entry.modify_index,
        }
    }

    /// As writes show it.
    pub(super) fn without_value(key: &'a [u8], entry: &'a Entry) -> Self {
        Self {
            value: &[],
            ..Self::new(key, entry)
        }
    }
}

/// JSON is text: a key that is not gets replacement characters.
fn as_text<S: Serializer>(key: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(key))
}

fn as_base64<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_empty() {
        serializer.serialize_none()
    } else {
        serializer.serialize_str(&STANDARD.encode(value))
    }
}
