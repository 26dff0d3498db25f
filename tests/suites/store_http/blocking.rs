//! Blocking reads: who is woken, by what, and how long a wait lasts.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::exchange::{Answer, Server};

/// A wait within which a server has to wake whom it wakes, and after which one that it does not
/// wake is known not to be.
const WAIT: Duration = Duration::from_secs(2);

/// A read that may block.
struct Blocked {
    answer: Receiver<Answer>,
    index: u64,
}

/// A prefix of one check's own.
struct Scope {
    server: Server,
    prefix: String,
}

impl Scope {
    fn new(base: &str) -> Self {
        Self {
            server: Server::new(base),
            prefix: format!("/v1/kv/wait-{:016x}/", rand::random::<u64>()),
        }
    }

    fn put(&self, name: &str, value: &str) {
        let target = format!("{}{name}", self.prefix);
        assert_eq!(self.server.put(&target, value).text().trim(), "true");
    }

    fn delete(&self, name: &str) {
        let target = format!("{}{name}", self.prefix);
        assert_eq!(self.server.send("DELETE", &target, b"").status, 200);
    }

    /// Watches a key or a prefix of the scope.
    fn watch(&self, name: &str) -> Blocked {
        self.watch_target(&format!("{}{name}", self.prefix))
    }

    /// Reads `target`, which may have parameters, and reads it again to wait for news.
    fn watch_target(&self, target: &str) -> Blocked {
        let index = self.server.get(target).index();
        let and = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{and}index={index}&wait={}s", WAIT.as_secs());
        let (tell, answer) = channel();
        let server = self.server.clone();
        thread::spawn(move || tell.send(server.get(&target)));
        Blocked { answer, index }
    }
}

impl Blocked {
    /// It has to return early, and with a higher index.
    fn wakes(self, why: &str) -> Answer {
        let answer = match self.answer.recv_timeout(WAIT * 3 / 4) {
            Ok(answer) => answer,
            Err(err) => panic!("not woken by {why}: {err}"),
        };
        assert!(answer.index() > self.index, "{why}: the same index");
        answer
    }

    /// It has to be waiting still.
    fn sleeps(&self, why: &str) {
        match self.answer.recv_timeout(WAIT / 4) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("{why}: {other:?}"),
        }
    }

    /// It has to return only when the wait is over, with the index as it was.
    fn times_out(self, why: &str) {
        let answer = self.answer.recv_timeout(WAIT * 2).expect("an answer");
        assert_eq!(answer.index(), self.index, "woken by {why}");
    }
}

pub(crate) fn a_change_wakes_its_watchers(base: &str) {
    let scope = Scope::new(base);
    for key in ["a/1", "a/2", "b/1"] {
        scope.put(key, "old");
    }
    let targets = [
        "a/1",
        "a/1?raw",
        "a/?recurse",
        "a/?keys",
        "a?recurse",
        "?recurse",
    ];
    for target in targets {
        let watch = scope.watch(target);
        watch.sleeps(target);
        scope.put("a/1", target);
        assert_eq!(watch.wakes(target).status, 200);
    }

    let watches = targets.map(|target| scope.watch(target));
    scope.put("a/1", "for all");
    for (watch, target) in watches.into_iter().zip(targets) {
        watch.wakes(target);
    }

    for target in ["a/?recurse", "a/2", "?keys"] {
        let watch = scope.watch(target);
        watch.sleeps(target);
        scope.delete("a/2");
        watch.wakes("a deletion");
        scope.put("a/2", "back");
    }
    for target in ["a/?recurse", "a/1"] {
        let watch = scope.watch(target);
        scope.delete("a/?recurse");
        assert_eq!(watch.wakes("a deleted prefix").status, 404);
        scope.put("a/1", "back");
    }
}

pub(crate) fn nothing_else_wakes_them(base: &str) {
    let scope = Scope::new(base);
    for key in ["a/1", "a/2", "gone/1"] {
        scope.put(key, "value");
    }
    scope.delete("gone/1");
    let watches = ["a/1", "a/?recurse", "a/1?recurse", "gone/?recurse"]
        .map(|target| (target, scope.watch(target)));
    let key = scope.watch("a/1");
    scope.put("b/1", "unrelated");
    scope.put("a/1", "value");
    scope.delete("a/none");
    scope.delete("a/none?recurse");
    for (target, watch) in watches {
        watch.times_out(target);
    }
    key.times_out("an identical value");

    let key = scope.watch("a/1");
    scope.put("a/2", "a neighbour");
    scope.put("a/12", "a longer name");
    key.times_out("other keys");
}

pub(crate) fn what_is_absent_wakes_on_any_change(base: &str) {
    let scope = Scope::new(base);
    scope.put("a/1", "old");
    for target in ["none/?recurse", "none/?keys", "none"] {
        let watch = scope.watch(target);
        watch.sleeps(target);
        scope.put("a/1", target);
        assert_eq!(watch.wakes(target).status, 404);
    }
    let watch = scope.watch("late");
    scope.put("late", "here");
    assert_eq!(watch.wakes("its creation").status, 200);
}

pub(crate) fn sessions_are_watched(base: &str) {
    let scope = Scope::new(base);
    let create = || {
        let created = scope
            .server
            .put("/v1/session/create", r#"{"NodeChecks":[]}"#);
        let created: serde_json::Value = serde_json::from_slice(&created.body).unwrap();
        created["ID"].as_str().unwrap().to_owned()
    };
    let destroy = |id: &str| scope.server.put(&format!("/v1/session/destroy/{id}"), "");
    let first = create();
    let list = scope.watch_target("/v1/session/list");
    list.sleeps("a list of sessions");
    let second = create();
    let answer = list.wakes("a session");
    assert!(answer.text().contains(&second), "{}", answer.text());

    let info = scope.watch_target(&format!("/v1/session/info/{first}"));
    info.sleeps("a session");
    scope.put("a", "unrelated");
    destroy(&first);
    let answer = info.wakes("its end");
    assert_eq!(answer.text().trim(), "[]");
    destroy(&second);
}

pub(crate) fn a_wait_ends_in_time(base: &str) {
    let scope = Scope::new(base);
    scope.put("a", "old");
    let target = format!("{}a", scope.prefix);
    // parameters, the shortest and the longest wait in milliseconds
    for (parameters, least, most) in [
        ("index=1&wait=5s", 0, 0),
        ("wait=5s", 0, 0),
        ("index=0&wait=5s", 0, 0),
        ("index=999999999&wait=800ms", 800, 850),
        ("index=999999999&wait=1.6s", 1_600, 1_700),
    ] {
        let begin = Instant::now();
        let answer = scope.server.get(&format!("{target}?{parameters}"));
        let took = begin.elapsed();
        assert_eq!(answer.status, 200);
        assert!(
            took >= Duration::from_millis(least),
            "{parameters}: {took:?}"
        );
        let slack = Duration::from_millis(500);
        assert!(
            took < Duration::from_millis(most) + slack,
            "{parameters}: {took:?}"
        );
    }
}

pub(crate) fn a_session_ends_unless_renewed(base: &str) {
    const TTL: Duration = Duration::from_secs(10);
    let scope = Scope::new(base);
    let session = |behavior: &str| {
        let body =
            format!(r#"{{"TTL":"10s","LockDelay":"0s","NodeChecks":[],"Behavior":"{behavior}"}}"#);
        let created = scope.server.put("/v1/session/create", &body);
        let created: serde_json::Value = serde_json::from_slice(&created.body).unwrap();
        created["ID"].as_str().unwrap().to_owned()
    };
    let begin = Instant::now();
    let [released, deleted, renewed] = ["release", "delete", "release"].map(session);
    scope.put(&format!("released?acquire={released}"), "x");
    scope.put(&format!("deleted?acquire={deleted}"), "x");
    scope.put(&format!("renewed?acquire={renewed}"), "x");
    let renew = |id: &str| scope.server.put(&format!("/v1/session/renew/{id}"), "");
    let read = |name: &str| scope.server.get(&format!("{}{name}", scope.prefix));

    thread::sleep(TTL);
    assert_eq!(renew(&renewed).status, 200);
    assert!(
        read("released").text().contains("Session"),
        "ended after one TTL"
    );
    let ended = || read("deleted").status == 404 && !read("released").text().contains("Session");
    while !ended() {
        assert!(
            begin.elapsed() < TTL * 2 + Duration::from_secs(2),
            "outlives 2 x TTL"
        );
        thread::sleep(Duration::from_millis(100));
    }
    assert!(begin.elapsed() > TTL * 3 / 2, "ended early");
    assert_eq!(renew(&released).status, 404);
    assert_eq!(read("released").status, 200);
    assert!(
        read("renewed").text().contains("Session"),
        "ended although renewed"
    );
    assert_eq!(renew(&renewed).status, 200);
    scope
        .server
        .put(&format!("/v1/session/destroy/{renewed}"), "");
}
