//! The store on a unix socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use overlay_agent::store::embedded::EmbeddedStore;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

#[test]
fn a_unix_socket_is_served_too() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("store.sock");
    let store = EmbeddedStore::open(&dir.path().join("store")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = runtime.block_on(async { UnixListener::bind(&socket).unwrap() });
    let serving = runtime.spawn(store.serve_unix(listener, async {
        stopped.await.unwrap();
    }));

    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let rest = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let put = ask(&format!(
        "PUT /v1/kv/a {rest}Content-Length: 5\r\n\r\nhello"
    ));
    assert!(
        put.starts_with("HTTP/1.1 200") && put.ends_with("true"),
        "{put}"
    );
    let got = ask(&format!("GET /v1/kv/a?raw {rest}\r\n"));
    assert!(got.ends_with("\r\n\r\nhello"), "{got}");
    let leader = ask(&format!("GET /v1/status/leader {rest}\r\n"));
    assert!(leader.ends_with("store.sock\""), "{leader}");

    let agent = ask(&format!("GET /v1/agent/self {rest}\r\n"));
    assert!(agent.contains(r#""Server":true"#), "{agent}");

    stop.send(()).unwrap();
    runtime.block_on(serving).unwrap().unwrap();
}
