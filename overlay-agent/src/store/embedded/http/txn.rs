//! `/v1/txn`: several operations, all or none.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::query::Query;
use super::reply::{self, EntryView, Failure};
use crate::store::embedded::engine::{Engine, Written};
use crate::store::embedded::state::{Draft, Op, TxnError, TxnResult, Verb, run_txn};

const MAX_OPS: usize = 64;

/// An operation as the API takes it. Only keys: anything else is an unknown field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireOp {
    #[serde(rename = "KV", alias = "kv")]
    kv: Option<WireKv>,
}

/// Every field may be missing or null.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct WireKv {
    verb: Option<String>,
    key: Option<String>,
    value: Option<String>,
    flags: Option<u64>,
    index: Option<u64>,
    session: Option<String>,
    /// Only Consul Enterprise has more than one.
    #[serde(rename = "Namespace")]
    _namespace: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireResult<'a> {
    #[serde(rename = "KV")]
    kv: EntryView<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireError {
    op_index: usize,
    what: String,
}

/// What a transaction that writes answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenReply<'a> {
    results: Option<Vec<WireResult<'a>>>,
    errors: Option<Vec<WireError>>,
}

/// What a transaction that only reads answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReadReply<'a> {
    #[serde(flatten)]
    outcome: WrittenReply<'a>,
    index: u64,
    last_contact: u64,
    known_leader: bool,
    consistency_level: &'static str,
}

/// Runs a transaction; 409 with all the reasons if it is not done.
pub(super) async fn put(
    engine: &Arc<Engine>,
    query: &Query,
    body: &[u8],
) -> Result<Response, Failure> {
    let ops = parse(body)?;
    if ops.iter().any(|op| op.verb.is_write()) {
        let outcome = match engine.write(move |draft| run_txn(draft, &ops)).await? {
            Written::Done(results) => Ok(results),
            Written::Refused(errors) => Err(errors),
        };
        let (status, reply) = view(&outcome);
        return reply::json(status, &reply);
    }
    query.patience()?;
    let outcome = run_txn(&mut Draft::new(&engine.state(), Instant::now()), &ops);
    let (status, outcome) = view(&outcome);
    let shown = reply::json(
        status,
        &ReadReply {
            outcome,
            index: 0,
            last_contact: 0,
            known_leader: true,
            consistency_level: "",
        },
    )?;
    Ok((reply::consistency(), shown).into_response())
}

fn parse(body: &[u8]) -> Result<Vec<Op>, Failure> {
    let unreadable = |why: String| Failure::bad_request(format!("Failed to parse body: {why}"));
    if body.trim_ascii().is_empty() {
        return Err(unreadable("EOF".to_owned()));
    }
    let wire: Option<Vec<WireOp>> =
        serde_json::from_slice(body).map_err(|err| unreadable(err.to_string()))?;
    let wire = wire.unwrap_or_default();
    if wire.len() > MAX_OPS {
        return Err(Failure::too_large(format!(
            "Transaction contains too many operations ({} > {MAX_OPS})",
            wire.len()
        )));
    }
    let ops = wire.into_iter().filter_map(|op| op.kv).map(op_of);
    ops.collect::<Result<_, _>>().map_err(unreadable)
}

fn op_of(wire: WireKv) -> Result<Op, String> {
    let value = wire.value.unwrap_or_default();
    let value = STANDARD.decode(value).map_err(|err| match err {
        base64::DecodeError::InvalidByte(at, _) => {
            format!("illegal base64 data at input byte {at}")
        }
        err => format!("illegal base64 data: {err}"),
    })?;
    Ok(Op {
        verb: Verb::from_name(&wire.verb.unwrap_or_default()),
        key: wire.key.unwrap_or_default().into_bytes().into(),
        value,
        flags: wire.flags.unwrap_or(0),
        index: wire.index.unwrap_or(0),
        session: wire.session.unwrap_or_default(),
    })
}

fn view(outcome: &Result<Vec<TxnResult>, Vec<TxnError>>) -> (StatusCode, WrittenReply<'_>) {
    match outcome {
        Ok(results) => {
            let results = results.iter().map(|result| WireResult {
                kv: if result.with_value {
                    EntryView::new(&result.key, &result.entry)
                } else {
                    EntryView::without_value(&result.key, &result.entry)
                },
            });
            let reply = WrittenReply {
                results: Some(results.collect()),
                errors: None,
            };
            (StatusCode::OK, reply)
        }
        Err(errors) => {
            let errors = errors.iter().map(|error| WireError {
                op_index: error.position,
                what: error.error.to_string(),
            });
            let reply = WrittenReply {
                results: None,
                errors: Some(errors.collect()),
            };
            (StatusCode::CONFLICT, reply)
        }
    }
}
