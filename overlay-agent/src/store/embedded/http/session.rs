//! `/v1/session/…`.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use super::query::Query;
use super::reply::{self, Failure};
use super::status::NODE_NAME;
use crate::store::embedded::engine::{Engine, Written};
use crate::store::embedded::go_duration;
use crate::store::embedded::state::{Answer, Behavior, Session, SessionId, State};

const MIN_TTL: Duration = Duration::from_secs(10);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_LOCK_DELAY: Duration = Duration::from_secs(15);

/// The one health check there is: that the server answers.
const SERVER_HEALTH: &str = "serfHealth";

#[derive(Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Created {
    id: SessionId,
}

/// Begins a session.
pub(super) async fn create(engine: &Arc<Engine>, body: &[u8]) -> Result<Response, Failure> {
    let id = SessionId::from_bytes(rand::random());
    let session = wanted(id, body)?;
    let created = engine.write(move |draft| {
        draft.create_session(session);
        Ok::<_, std::convert::Infallible>(())
    });
    let Written::Done(()) = created.await?;
    reply::json(StatusCode::OK, &Created { id })
}

/// Ends a session; also fine if there is none.
pub(super) async fn destroy(engine: &Arc<Engine>, id: &str) -> Result<Response, Failure> {
    let id = session_id(id)?;
    let destroyed = engine.write(move |draft| {
        draft.destroy_session(id);
        Ok::<_, std::convert::Infallible>(())
    });
    let Written::Done(()) = destroyed.await?;
    reply::json(StatusCode::OK, &true)
}

/// Prolongs a session; 404 if it has ended.
pub(super) fn renew(engine: &Engine, id: &str, query: &Query) -> Result<Response, Failure> {
    query.patience()?;
    let session = engine
        .renew_session(session_id(id)?)
        .ok_or_else(|| Failure::no_session(format!("Session id '{id}' not found")))?;
    reply::json(StatusCode::OK, &[&*session])
}

/// One session, as a list of at most one.
pub(super) async fn info(engine: &Engine, id: &str, query: &Query) -> Result<Response, Failure> {
    let patience = query.patience()?;
    let id = session_id(id)?;
    let found = engine.read(patience, |state| state.session(id)).await;
    show(&Answer {
        index: found.index,
        watch: found.watch,
        value: found.value.into_iter().collect(),
    })
}

/// All sessions.
pub(super) async fn list(engine: &Engine, query: &Query) -> Result<Response, Failure> {
    let patience = query.patience()?;
    show(&engine.read(patience, State::sessions).await)
}

fn show(answer: &Answer<Vec<Arc<Session>>>) -> Result<Response, Failure> {
    let sessions: Vec<&Session> = answer.value.iter().map(|session| &**session).collect();
    let shown = reply::json(StatusCode::OK, &sessions)?;
    Ok((reply::meta(answer.index), shown).into_response())
}

fn session_id(text: &str) -> Result<SessionId, Failure> {
    if text.is_empty() {
        return Err(Failure::bad_request("Missing session"));
    }
    text.parse()
        .map_err(|err| Failure::internal(format!("failed session lookup: index error: {err}")))
}

/// The session that a body asks for; nothing, or null, asks for one with all defaults.
fn wanted(id: SessionId, body: &[u8]) -> Result<Session, Failure> {
    let fields = match body {
        [] => Map::new(),
        body => serde_json::from_slice::<Option<Map<String, Value>>>(body)
            .map_err(|err| undecodable(&err.to_string()))?
            .unwrap_or_default(),
    };
    let fields = Fields(fields);
    let lock_delay = lock_delay(fields.get("LockDelay"))?;
    let node_checks = match (fields.get("NodeChecks"), fields.get("Checks")) {
        (None, None) => Some(vec![SERVER_HEALTH.to_owned()]),
        (Some(checks), _) => check_names(checks)?,
        (None, Some(checks)) => Some(check_names(checks)?.unwrap_or_default()),
    };
    let ttl = fields.text("TTL")?;
    let node = fields.text("Node")?;
    let session = Session {
        id,
        name: fields.text("Name")?.to_owned(),
        node: NODE_NAME.to_owned(),
        lock_delay,
        behavior: behavior(fields.text("Behavior")?)?,
        ttl: ttl.to_owned(),
        node_checks,
        service_checks: None,
        create_index: 0,
        modify_index: 0,
        lifetime: lifetime(ttl)?,
    };
    if !node.is_empty() && node != NODE_NAME {
        return Err(Failure::internal("Missing node registration"));
    }
    let unknown = session.node_checks.iter().flatten();
    if let Some(check) = unknown.into_iter().find(|check| *check != SERVER_HEALTH) {
        return Err(Failure::internal(format!(
            "Missing check '{check}' registration"
        )));
    }
    Ok(session)
}

fn check_names(value: &Value) -> Result<Option<Vec<String>>, Failure> {
    serde_json::from_value(value.clone())
        .map_err(|_| undecodable("NodeChecks has to be a list of strings"))
}

/// The fields of a body, whose names may be in any case.
struct Fields(Map<String, Value>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        let mut fields = self.0.iter();
        fields
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<&str, Failure> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(undecodable(&format!("{name} has to be a string"))),
        }
    }
}

fn behavior(text: &str) -> Result<Behavior, Failure> {
    match text {
        "" | "release" => Ok(Behavior::Release),
        "delete" => Ok(Behavior::Delete),
        other => Err(Failure::internal(format!(
            "Invalid Behavior setting '{other}'"
        ))),
    }
}

/// The TTL, if the session has one.
fn lifetime(text: &str) -> Result<Option<Duration>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let nanoseconds = go_duration::parse(text)
        .map_err(|err| Failure::internal(format!("Session TTL '{text}' invalid: {err}")))?;
    match u64::try_from(nanoseconds).map(Duration::from_nanos) {
        Ok(Duration::ZERO) => Ok(None),
        Ok(ttl) if (MIN_TTL..=MAX_TTL).contains(&ttl) => Ok(Some(ttl)),
        Ok(_) | Err(_) => Err(Failure::internal(format!(
            "Invalid Session TTL '{nanoseconds}', must be between [10s=24h0m0s]"
        ))),
    }
}

/// In nanoseconds. A number below 1000, or as many nanoseconds in a text, means seconds: nobody
/// wants a delay that short, and many write `15`.
fn lock_delay(value: Option<&Value>) -> Result<u64, Failure> {
    const SECOND: i64 = 1_000_000_000;
    let nanoseconds = match value {
        None | Some(Value::Null) => return Ok(DEFAULT_LOCK_DELAY.as_secs() * 1_000_000_000),
        Some(Value::String(text)) => {
            go_duration::parse(text).map_err(|err| undecodable(&err.to_string()))?
        }
        Some(value) => value
            .as_i64()
            .ok_or_else(|| undecodable("LockDelay has to be a duration or a whole number"))?,
    };
    let nanoseconds = if nanoseconds < 1_000 {
        nanoseconds.saturating_mul(SECOND)
    } else {
        nanoseconds
    };
    Ok(u64::try_from(nanoseconds).unwrap_or(0))
}

fn undecodable(why: &str) -> Failure {
    Failure::bad_request(format!("Request decode failed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId::from_bytes([7; 16]);

    #[test]
    fn a_session_has_consuls_defaults() {
        for body in ["", "null", "{}", r#"{"Unknown":1}"#] {
            let session = wanted(ID, body.as_bytes()).unwrap();
            assert_eq!(session.lock_delay, 15_000_000_000, "{body}");
            assert_eq!(session.behavior, Behavior::Release);
            assert_eq!(session.lifetime, None);
            assert_eq!(session.node_checks, Some(vec!["serfHealth".to_owned()]));
        }
    }

    #[test]
    fn a_session_is_what_was_asked_for() {
        let body =
            br#"{"TTL":"15s","Behavior":"delete","lockdelay":"0s","NodeChecks":[],"Name":"n"}"#;
        let session = wanted(ID, body).unwrap();
        assert_eq!(session.lifetime, Some(Duration::from_secs(15)));
        assert_eq!(session.ttl, "15s");
        assert_eq!(session.behavior, Behavior::Delete);
        assert_eq!(session.lock_delay, 0);
        assert_eq!(session.node_checks, Some(Vec::new()));
        assert_eq!(session.name, "n");
    }

    #[test]
    fn lock_delays_are_read_as_consul_reads_them() {
        for (body, expected) in [
            (r#"{"LockDelay":5}"#, 5_000_000_000),
            (r#"{"LockDelay":2000000000}"#, 2_000_000_000),
            (r#"{"LockDelay":"5ns"}"#, 5_000_000_000),
            (r#"{"LockDelay":"2m"}"#, 120_000_000_000),
            (r#"{"LockDelay":null}"#, 15_000_000_000),
            (r#"{"LockDelay":-1}"#, 0),
        ] {
            let session = wanted(ID, body.as_bytes()).unwrap();
            assert_eq!(session.lock_delay, expected, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_a_session_is_refused() {
        for (body, status) in [
            (r#"{"TTL":"5s"}"#, 500),
            (r#"{"TTL":"25h"}"#, 500),
            (r#"{"TTL":"-20s"}"#, 500),
            (r#"{"TTL":"5"}"#, 500),
            (r#"{"Behavior":"foo"}"#, 500),
            (r#"{"Node":"other"}"#, 500),
            (r#"{"Checks":["nope"]}"#, 500),
            (r#"{"TTL":15}"#, 400),
            (r#"{"LockDelay":"x"}"#, 400),
            (r#"{"LockDelay":[]}"#, 400),
            (r#"{"NodeChecks":5}"#, 400),
            ("{bad", 400),
            ("[]", 400),
        ] {
            let failure = wanted(ID, body.as_bytes()).unwrap_err();
            assert_eq!(failure.status().as_u16(), status, "{body}");
        }
    }
}
