//! Requests and the answers a Consul 1.8.7 gave to them, compared with what a server gives now.
//!
//! `exchanges.txt` holds cases (`# name`) of requests (`> METHOD target body`) and answers
//! (`< status …`). In a request `$P` is a prefix of the case's own, `$S1`, `$S2` are the sessions
//! it made so far, `$M` is the `ModifyIndex` seen last, `$A<n>` is a text of n bytes and `$OPS<n>`
//! a transaction of n reads. In an answer the same names stand for what a server chose freely,
//! and an index is its rank among those of the case (0: from before it).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::exchange::{Answer, Server};

const EXCHANGES: &str = include_str!("exchanges.txt");

/// The rank that stands for an index is put in between these while a case runs.
const MARK: char = '\u{e000}';

#[derive(Debug)]
struct Case<'a> {
    name: &'a str,
    /// Request and expected answer.
    exchanges: Vec<(&'a str, &'a str)>,
}

/// Runs all cases; panics with the cases that went differently, as they went.
pub(crate) fn check(base: &str) {
    let server = Server::new(base);
    let mut different = String::new();
    for case in cases() {
        let given = Run::new(&server).case(&case);
        let matches = given
            .iter()
            .zip(&case.exchanges)
            .all(|(given, (_, expected))| is_as_expected(given, expected));
        if matches {
            continue;
        }
        let _ = writeln!(different, "# {}", case.name);
        for (given, (request, expected)) in given.iter().zip(&case.exchanges) {
            let _ = writeln!(different, "> {request}\n< {given}");
            if !is_as_expected(given, expected) {
                let _ = writeln!(different, "  instead of\n< {expected}");
            }
        }
    }
    assert!(
        different.is_empty(),
        "{base} answers otherwise:\n{different}"
    );
}

/// An expected answer that ends in `…` says only how the answer begins.
fn is_as_expected(given: &str, expected: &str) -> bool {
    match expected.strip_suffix('…') {
        Some(start) => given.starts_with(start),
        None => given == expected,
    }
}

fn cases() -> Vec<Case<'static>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    let mut request = None;
    for line in EXCHANGES.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            let exchanges = Vec::new();
            cases.push(Case { name, exchanges });
        } else if let Some(line) = line.strip_prefix("> ") {
            request = Some(line);
        } else if let Some(answer) = line.strip_prefix('<') {
            let case = cases.last_mut().expect("an answer within a case");
            let request = request.take().expect("an answer to a request");
            case.exchanges.push((request, answer.trim_start()));
        } else {
            assert!(line.is_empty(), "exchanges.txt: {line}");
        }
    }
    cases
}

/// One case on one server.
struct Run<'a> {
    server: &'a Server,
    prefix: String,
    sessions: Vec<String>,
    modify_index: u64,
    /// The index of the last change before the case.
    before: u64,
    indexes: BTreeSet<u64>,
}

impl<'a> Run<'a> {
    fn new(server: &'a Server) -> Self {
        let prefix = format!("case-{:016x}/", rand::random::<u64>());
        let before = server.get(&format!("/v1/kv/{prefix}none")).index();
        let sessions = server.get("/v1/session/list").index();
        Self {
            server,
            prefix,
            sessions: Vec::new(),
            modify_index: 0,
            before: before.max(sessions),
            indexes: BTreeSet::new(),
        }
    }

    fn case(&mut self, case: &Case<'_>) -> Vec<String> {
        let given: Vec<String> = (case.exchanges.iter())
            .map(|(request, _)| self.exchange(request))
            .collect();
        given.iter().map(|answer| self.rank(answer)).collect()
    }

    fn exchange(&mut self, request: &str) -> String {
        let mut parts = request.splitn(3, ' ');
        let method = parts.next().expect("a method");
        let target = self.fill(parts.next().expect("a target"));
        let body = self.fill(parts.next().unwrap_or_default());
        let answer = self.server.send(method, &target, body.as_bytes());
        self.show(&answer)
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text
            .replace("$P", &self.prefix)
            .replace("$M", &self.modify_index.to_string());
        for (number, session) in self.sessions.iter().enumerate() {
            text = text.replace(&format!("$S{}", number + 1), session);
        }
        if let Some(length) = text.strip_prefix("$A") {
            return "a".repeat(length.parse().expect("$A and a length"));
        }
        if let Some(count) = text.strip_prefix("$OPS") {
            let count = count.parse().expect("$OPS and a number");
            return format!(
                "[{}]",
                vec![r#"{"KV":{"Verb":"get","Key":"k"}}"#; count].join(",")
            );
        }
        text
    }

    fn show(&mut self, answer: &Answer) -> String {
        let mut line = answer.status.to_string();
        let known = answer.header("x-consul-knownleader");
        let contact = answer.header("x-consul-lastcontact");
        if (known, contact) == (Some("true"), Some("0")) {
            line += " fresh";
        }
        if answer.header("x-consul-index").is_some() && answer.status != 500 {
            line += &format!(" index={}", self.mark(answer.index()));
        }
        for name in ["allow", "location"] {
            if let Some(value) = answer.header(name) {
                line += &format!(" {name}={}", self.name(value));
            }
        }
        let text = match serde_json::from_slice::<Value>(&answer.body) {
            Ok(mut json) => {
                line += " json";
                assert_eq!(answer.header("content-type"), Some("application/json"));
                self.mark_json(&mut json);
                let mark = MARK.to_string();
                let text = json.to_string();
                text.replace(&format!("\"{MARK}"), &mark)
                    .replace(&format!("{MARK}\""), &mark)
            }
            Err(_) => answer.text(),
        };
        let text = self.mark_text(text.trim_end());
        let line = format!("{line} {text}");
        self.name(line.trim_end())
    }

    /// Replaces what the server, or this run, chose freely.
    fn name(&self, text: &str) -> String {
        let mut text = text.replace(&self.prefix, "$P");
        for (number, session) in self.sessions.iter().enumerate() {
            text = text.replace(session, &format!("$S{}", number + 1));
        }
        text
    }

    fn mark_json(&mut self, json: &mut Value) {
        match json {
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark_json(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), &value) {
                        ("ModifyIndex" | "CreateIndex", Value::Number(index)) => {
                            let index = index.as_u64().expect("an index");
                            if name == "ModifyIndex" {
                                self.modify_index = index;
                            }
                            let mark = self.mark(index);
                            // Quoted here, and unquoted once the JSON is text.
                            *value = Value::String(mark);
                        }
                        ("ID", Value::String(id)) => {
                            if !self.sessions.contains(id) {
                                self.sessions.push(id.clone());
                            }
                        }
                        ("Node", Value::String(_)) => *value = Value::String("$N".to_owned()),
                        _ => self.mark_json(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn mark_text(&mut self, text: &str) -> String {
        const PHRASE: &str = "current modify index ";
        let Some((before, after)) = text.split_once(PHRASE) else {
            return text.to_owned();
        };
        let end = after.find(' ').unwrap_or(after.len());
        let mark = self.mark(after[..end].parse().expect("an index"));
        format!("{before}{PHRASE}{mark}{}", self.mark_text(&after[end..]))
    }

    fn mark(&mut self, index: u64) -> String {
        if index > self.before {
            self.indexes.insert(index);
        }
        format!("{MARK}{index}{MARK}")
    }

    fn rank(&self, text: &str) -> String {
        let mut ranked = String::new();
        for (position, part) in text.split(MARK).enumerate() {
            if position % 2 == 0 {
                ranked += part;
                continue;
            }
            let index: u64 = part.parse().expect("an index between marks");
            let rank = self.indexes.range(..=index).count();
            ranked += &rank.to_string();
        }
        ranked
    }
}
