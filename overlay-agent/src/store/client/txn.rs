//! Transactions: several operations, applied all or none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Client, KvPair, SessionId};
use crate::store::error::{FailedOp, StoreError};

/// Consul's limit; more is a 413.
pub const MAX_TXN_OPS: usize = 64;

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnOp {
    verb: &'static str,
    key: String,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
}

impl TxnOp {
    fn new(verb: &'static str, key: impl Into<String>) -> Self {
        Self {
            verb,
            key: key.into(),
            value: None,
            index: None,
            session: None,
        }
    }

    fn with_value(mut self, value: &[u8]) -> Self {
        self.value = Some(STANDARD.encode(value));
        self
    }

    fn with_index(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }

    pub fn set(key: impl Into<String>, value: &[u8]) -> Self {
        Self::new("set", key).with_value(value)
    }

    /// Writes if the key's `ModifyIndex` is `index`; 0 means that it must not exist.
    pub fn cas(key: impl Into<String>, value: &[u8], index: u64) -> Self {
        Self::new("cas", key).with_value(value).with_index(index)
    }

    /// Writes and takes the lock; fails when another session holds it.
    pub fn lock(key: impl Into<String>, value: &[u8], session: SessionId) -> Self {
        Self {
            session: Some(session),
            ..Self::new("lock", key).with_value(value)
        }
    }

    /// Fails when the key does not exist.
    pub fn get(key: impl Into<String>) -> Self {
        Self::new("get", key)
    }

    /// All keys under a prefix, which may be none.
    pub fn get_tree(prefix: impl Into<String>) -> Self {
        Self::new("get-tree", prefix)
    }

    /// Fails unless the key's `ModifyIndex` is `index`.
    pub fn check_index(key: impl Into<String>, index: u64) -> Self {
        Self::new("check-index", key).with_index(index)
    }

    /// Fails unless `session` holds the key's lock.
    pub fn check_session(key: impl Into<String>, session: SessionId) -> Self {
        Self {
            session: Some(session),
            ..Self::new("check-session", key)
        }
    }

    pub fn check_not_exists(key: impl Into<String>) -> Self {
        Self::new("check-not-exists", key)
    }

    pub fn delete(key: impl Into<String>) -> Self {
        Self::new("delete", key)
    }

    pub fn delete_tree(prefix: impl Into<String>) -> Self {
        Self::new("delete-tree", prefix)
    }

    /// Fails unless the key's `ModifyIndex` is `index`.
    pub fn delete_cas(key: impl Into<String>, index: u64) -> Self {
        Self::new("delete-cas", key).with_index(index)
    }
}

#[derive(Serialize)]
struct Item<'a> {
    #[serde(rename = "KV")]
    kv: &'a TxnOp,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnReply {
    results: Option<Vec<ResultItem>>,
    errors: Option<Vec<ErrorItem>>,
}

#[derive(Deserialize)]
struct ResultItem {
    #[serde(rename = "KV")]
    kv: KvPair,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorItem {
    op_index: usize,
    what: String,
}

impl Client {
    /// Applies `ops`, all or none, and gives the pairs that the store reports, in order: those of
    /// reads whole, those of writes without value, none for deletions and checks of absence.
    ///
    /// `action` completes the sentence "cannot …" in errors.
    pub async fn txn(&self, action: &str, ops: &[TxnOp]) -> Result<Vec<KvPair>, StoreError> {
        if ops.len() > MAX_TXN_OPS {
            return Err(StoreError::TooLarge {
                action: action.to_owned(),
                detail: format!("{} operations, the limit is {MAX_TXN_OPS}", ops.len()),
            });
        }
        let items: Vec<_> = ops.iter().map(|kv| Item { kv }).collect();
        let request = self.request(Method::PUT, "txn", "").json(&items);
        let action = || action.to_owned();
        let reply = self.send(request, action, &[StatusCode::CONFLICT]).await?;
        let decoded: TxnReply = self.decode(&reply.body, action)?;
        let errors = decoded.errors.unwrap_or_default();
        if reply.status == StatusCode::CONFLICT || !errors.is_empty() {
            let error = refused(action(), errors);
            self.health().failure(&error);
            return Err(error);
        }
        let results = decoded.results.unwrap_or_default();
        Ok(results.into_iter().map(|item| item.kv).collect())
    }
}

/// Consul reports a denied operation like a failed condition; only the text tells.
fn refused(action: String, errors: Vec<ErrorItem>) -> StoreError {
    if let Some(denied) = errors.iter().find(|e| e.what.contains("Permission denied")) {
        return StoreError::Denied {
            action,
            detail: denied.what.clone(),
        };
    }
    let failed = errors.into_iter().map(|error| FailedOp {
        op: error.op_index,
        what: error.what,
    });
    StoreError::Conflict {
        action,
        failed: failed.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::error::ErrorKind;

    #[test]
    fn operations_as_json() {
        let json = |op: TxnOp| serde_json::to_string(&Item { kv: &op }).unwrap();
        assert_eq!(
            json(TxnOp::cas("a", b"1", 0)),
            r#"{"KV":{"Verb":"cas","Key":"a","Value":"MQ==","Index":0}}"#
        );
        assert_eq!(
            json(TxnOp::delete("a")),
            r#"{"KV":{"Verb":"delete","Key":"a"}}"#
        );
    }

    #[test]
    fn denied_is_told_by_its_text() {
        let error = |op_index, what: &str| ErrorItem {
            op_index,
            what: what.to_owned(),
        };
        let conflict = refused("x".into(), vec![error(1, "index is stale")]);
        assert!(conflict.op_failed(1));
        let denied = refused(
            "x".into(),
            vec![error(0, "index is stale"), error(1, "Permission denied")],
        );
        assert_eq!(denied.kind(), ErrorKind::Denied);
    }
}
