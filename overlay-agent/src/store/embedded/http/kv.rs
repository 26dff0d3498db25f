//! `/v1/kv/…`: one key, or all under a prefix.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::query::Query;
use super::reply::{self, EntryView, Failure};
use crate::store::embedded::engine::{Engine, Written};
use crate::store::embedded::state::{Entry, Key, Op, State, Verb};

/// For a value that is shown as it is: a browser must not take it for anything but text.
const RAW_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox"),
    ),
];

/// Reads a key (`?raw`: only its value), a prefix (`?recurse`), or the names of its keys
/// (`?keys`, up to a `?separator=`).
pub(super) async fn get(engine: &Engine, key: Key, query: &Query) -> Result<Response, Failure> {
    let patience = query.patience()?;
    if query.has("keys") {
        let read = |state: &State| state.list(&key);
        let listed = engine.read(patience, read).await;
        let names = names(&listed.value, key.len(), separator(query).as_bytes());
        let found = !names.is_empty() || key.is_empty();
        return show(listed.index, found, &names);
    }
    if query.has("recurse") {
        let read = |state: &State| state.list(&key);
        let listed = engine.read(patience, read).await;
        return show_entries(listed.index, &listed.value);
    }
    if key.is_empty() {
        return Err(Failure::bad_request("Missing key name"));
    }
    let got = engine.read(patience, |state| state.get(&key)).await;
    match got.value {
        Some(entry) if query.has("raw") => {
            let headers = reply::meta(got.index);
            Ok((headers, RAW_HEADERS, entry.value.clone()).into_response())
        }
        Some(entry) => show_entries(got.index, &[(key, entry)]),
        None => show_entries(got.index, &[]),
    }
}

/// What is wrong with a `PUT`, before its body is read.
///
/// # Errors
/// No key, or parameters that cannot be read or exclude each other.
pub(super) fn check_put(key: &Key, query: &Query) -> Result<(), Failure> {
    put_op(key.clone(), query).map(drop)
}

/// Writes a key; `?cas=`, `?acquire=` and `?release=` answer `false` if the state says no.
pub(super) async fn put(
    engine: &Arc<Engine>,
    key: Key,
    query: &Query,
    value: &[u8],
) -> Result<Response, Failure> {
    let mut op = put_op(key, query)?;
    op.value = value.to_vec();
    run(engine, op).await
}

fn put_op(key: Key, query: &Query) -> Result<Op, Failure> {
    query.patience()?;
    if key.is_empty() {
        return Err(Failure::bad_request("Missing key name"));
    }
    query.at_most_one_of(&["cas", "acquire", "release"])?;
    let flags = query.number("flags")?.unwrap_or(0);
    let index = query.number("cas")?;
    let (verb, session) = match (query.get("acquire"), query.get("release")) {
        (Some(session), _) => (Verb::Lock, session),
        (None, Some(session)) => (Verb::Unlock, session),
        (None, None) if index.is_some() => (Verb::Cas, ""),
        (None, None) => (Verb::Set, ""),
    };
    Ok(Op {
        verb,
        key,
        value: Vec::new(),
        flags,
        index: index.unwrap_or(0),
        session: session.to_owned(),
    })
}

/// Deletes a key (`?cas=`: if it is still the one of that index), or a prefix (`?recurse`).
pub(super) async fn delete(
    engine: &Arc<Engine>,
    key: Key,
    query: &Query,
) -> Result<Response, Failure> {
    query.patience()?;
    query.at_most_one_of(&["recurse", "cas"])?;
    let recurse = query.has("recurse");
    if key.is_empty() && !recurse {
        return Err(Failure::bad_request("Missing key name"));
    }
    let index = query.number("cas")?;
    let verb = match index {
        _ if recurse => Verb::DeleteTree,
        Some(_) => Verb::DeleteCas,
        None => Verb::Delete,
    };
    let op = Op {
        verb,
        key,
        value: Vec::new(),
        flags: 0,
        index: index.unwrap_or(0),
        session: String::new(),
    };
    run(engine, op).await
}

async fn run(engine: &Arc<Engine>, op: Op) -> Result<Response, Failure> {
    match engine.write(move |draft| draft.run_one(&op)).await? {
        Written::Done(()) => reply::json(StatusCode::OK, &true),
        Written::Refused(err) if err.is_refusal() => reply::json(StatusCode::OK, &false),
        Written::Refused(err) => Err(Failure::internal(err.to_string())),
    }
}

fn show_entries(index: u64, entries: &[(Key, Arc<Entry>)]) -> Result<Response, Failure> {
    let views: Vec<EntryView<'_>> = (entries.iter())
        .map(|(key, entry)| EntryView::new(key, entry))
        .collect();
    show(index, !views.is_empty(), &views)
}

/// What was found, or a 404; with the index in either case.
fn show(index: u64, found: bool, body: &impl serde::Serialize) -> Result<Response, Failure> {
    let headers = reply::meta(index);
    if found {
        let shown = reply::json(StatusCode::OK, body)?;
        Ok((headers, shown).into_response())
    } else {
        Ok((StatusCode::NOT_FOUND, headers).into_response())
    }
}

/// Consul once misspelt it and has to take both.
fn separator(query: &Query) -> &str {
    query
        .get("separator")
        .or_else(|| query.get("seperator"))
        .unwrap_or_default()
}

/// The names of the keys; those that go on after a separator only up to it, and once.
fn names(entries: &[(Key, Arc<Entry>)], prefix: usize, separator: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (key, _) in entries {
        let end = position(&key[prefix..], separator)
            .map_or(key.len(), |at| prefix + at + separator.len());
        let name = String::from_utf8_lossy(&key[..end]);
        // In order, so equal ones are neighbours.
        if names.last().is_none_or(|last| *last != name) {
            names.push(name.into_owned());
        }
    }
    names
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return None;
    }
    text.windows(wanted.len()).position(|part| part == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_separator() {
        let entries: Vec<(Key, Arc<Entry>)> = ["d/", "d/1", "d/2/x", "d/2/y", "d/3--a", "d/3--b"]
            .iter()
            .map(|key| (Key::from(key.as_bytes()), Arc::default()))
            .collect();
        // prefix length, separator, names
        for (prefix, separator, expected) in [
            (2, "/", vec!["d/", "d/1", "d/2/", "d/3--a", "d/3--b"]),
            (1, "/", vec!["d/"]),
            (2, "--", vec!["d/", "d/1", "d/2/x", "d/2/y", "d/3--"]),
            (
                2,
                "",
                vec!["d/", "d/1", "d/2/x", "d/2/y", "d/3--a", "d/3--b"],
            ),
        ] {
            let names = names(&entries, prefix, separator.as_bytes());
            assert_eq!(names, expected, "{prefix} {separator:?}");
        }
    }
}
