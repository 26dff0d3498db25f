//! What a store keeps when it is stopped and started.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use overlay_agent::store::embedded::{EmbeddedError, EmbeddedStore};

use super::embedded::Running;
use super::exchange::Server;

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file() -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    File { _dir: dir, path }
}

#[test]
fn keys_and_indexes_survive_and_sessions_do_not() {
    let file = file();
    let running = Running::start(&file.path);
    let server = Server::new(&running.base());
    let create = r#"{"LockDelay":"0s","NodeChecks":[]}"#;
    let created = server.put("/v1/session/create", create);
    let created: serde_json::Value = serde_json::from_slice(&created.body).unwrap();
    let session = created["ID"].as_str().unwrap();
    let listed = server.get("/v1/session/list").text();
    assert!(listed.contains(session), "{listed}");
    for target in ["a?flags=9", "b/1", "b/2", "c", "empty"] {
        server.put(&format!("/v1/kv/{target}"), target.get(..1).unwrap());
    }
    server.put("/v1/kv/empty", "");
    server.put(&format!("/v1/kv/locked?acquire={session}"), "mine");
    server.send("DELETE", "/v1/kv/b/2", b"");
    server.put("/v1/kv/c", "later");
    let reads = ["a", "b/?recurse", "c", "empty", "?keys"];
    let before = reads.map(|name| server.get(&format!("/v1/kv/{name}")).text());
    let prefix_index = server.get("/v1/kv/b/?recurse").index();
    let last = server.get("/v1/kv/none").index();
    running.stop().unwrap();

    let running = Running::start(&file.path);
    let server = Server::new(&running.base());
    let after = reads.map(|name| server.get(&format!("/v1/kv/{name}")).text());
    assert_eq!(before, after);
    assert_eq!(server.get("/v1/kv/b/?recurse").index(), prefix_index);
    let locked = server.get("/v1/kv/locked");
    assert!(!locked.text().contains("Session"), "{}", locked.text());
    assert!(locked.text().contains("bWluZQ=="), "{}", locked.text());
    assert!(locked.index() > last, "released without a new index");
    let renewed = server.put(&format!("/v1/session/renew/{session}"), "");
    assert_eq!(renewed.status, 404);
    assert_eq!(server.get("/v1/session/list").text(), "[]");
    server.put("/v1/kv/c", "newest");
    assert!(server.get("/v1/kv/c").index() > locked.index());
    running.stop().unwrap();
}

#[test]
fn a_stopping_store_answers_who_waits_and_lets_the_file_go() {
    let file = file();
    let running = Running::start(&file.path);
    let server = Server::new(&running.base());
    server.put("/v1/kv/a", "old");
    let index = server.get("/v1/kv/a").index();
    // Neither who says nothing nor who stops in mid-sentence may hold the store up.
    let connect = || TcpStream::connect(running.base().trim_start_matches("http://")).unwrap();
    let silent = connect();
    let mut stuck = connect();
    stuck.write_all(b"GET /v1/kv/a HTTP/1.1\r\n").unwrap();
    let waiting = std::thread::spawn(move || {
        let target = format!("/v1/kv/a?index={index}&wait=60s");
        server.get(&target)
    });
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    running.stop().unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    let answer = waiting.join().unwrap();
    assert_eq!((answer.status, answer.index()), (200, index));
    drop((silent, stuck));
    EmbeddedStore::open(&file.path).unwrap();
}

#[test]
fn a_file_that_cannot_be_opened_says_why() {
    let file = file();
    let open = |path: &std::path::Path| {
        let err = EmbeddedStore::open(path).expect_err("an unusable file");
        assert!(
            err.to_string().contains(&path.display().to_string()),
            "{err}"
        );
        err
    };

    let running = Running::start(&file.path);
    assert!(matches!(open(&file.path), EmbeddedError::Locked { .. }));
    running.stop().unwrap();

    let missing = file.path.join("no/such/directory");
    assert!(matches!(open(&missing), EmbeddedError::Open { .. }));

    let foreign = file.path.with_extension("txt");
    std::fs::write(
        &foreign,
        "this is a shopping list, not a store\n".repeat(200),
    )
    .unwrap();
    assert!(matches!(open(&foreign), EmbeddedError::Foreign { .. }));

    let truncated = file.path.with_extension("cut");
    let bytes = std::fs::read(&file.path).unwrap();
    std::fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(open(&truncated), EmbeddedError::Corrupt { .. }));
}
