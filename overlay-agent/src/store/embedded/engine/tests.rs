use std::convert::Infallible;

use super::*;
use crate::store::embedded::state::{Op, OpError, Verb};

fn open() -> (tempfile::TempDir, Arc<Engine>) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&dir.path().join("store")).unwrap();
    (dir, Arc::new(engine))
}

fn set(key: &str, value: &str) -> impl FnOnce(&mut Draft<'_>) -> Result<(), OpError> + use<> {
    let op = Op {
        verb: Verb::Set,
        key: key.as_bytes().into(),
        value: value.into(),
        flags: 0,
        index: 0,
        session: String::new(),
    };
    move |draft| draft.run_one(&op)
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_reader_that_hangs_up_leaves_the_list() {
    let (_dir, engine) = open();
    let patience = Some(Patience {
        index: 1,
        wait: LONG,
    });
    let read = engine.read(patience, |state| state.get(b"a"));
    let cut_short = tokio::time::timeout(Duration::from_millis(50), read).await;
    assert!(cut_short.is_err());
    assert_eq!(engine.waiters.count(), 0);
}

#[tokio::test]
async fn a_write_is_finished_although_its_client_is_gone() {
    let (_dir, engine) = open();
    let (begun, wait_for_begin) = std::sync::mpsc::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let write = engine.write(move |draft| {
        begun.send(()).unwrap();
        wait.recv().unwrap();
        set("a", "1")(draft)
    });
    let gone = tokio::time::timeout(Duration::from_millis(50), write).await;
    assert!(gone.is_err());
    wait_for_begin.recv().unwrap();
    go_on.send(()).unwrap();
    // Writes are in turn: once this one is done, so is the other.
    let nothing = engine.write(|_| Ok::<_, Infallible>(())).await;
    assert!(nothing.is_ok());
    assert!(engine.state().get(b"a").value.is_some());
}

#[tokio::test]
async fn a_refused_write_leaves_no_trace() {
    let (_dir, engine) = open();
    let written = engine
        .write(|draft| {
            set("a", "1")(draft).map_err(|_| "unexpected")?;
            Err::<(), _>("on purpose")
        })
        .await
        .unwrap();
    assert!(matches!(written, Written::Refused("on purpose")));
    assert_eq!(engine.state().get(b"a").value, None);
}

#[tokio::test]
async fn a_closed_store_takes_no_writes_and_keeps_none_waiting() {
    let (_dir, engine) = open();
    engine.stop_waiting();
    let patience = Some(Patience {
        index: 1,
        wait: LONG,
    });
    let answer = engine.read(patience, |state| state.get(b"a")).await;
    assert_eq!(answer.value, None);
    engine.close().await.unwrap();
    let refused = engine.write(set("a", "1")).await;
    assert!(matches!(refused, Err(EmbeddedError::Stopped)));
    assert_eq!(engine.state().get(b"a").value, None);
}

#[tokio::test]
async fn many_readers_and_writers_miss_nothing() {
    const WRITES: u64 = 100;
    let (_dir, engine) = open();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut index = 1;
                loop {
                    let patience = Some(Patience { index, wait: LONG });
                    let answer = engine.read(patience, |state| state.list(b"p/")).await;
                    assert!(answer.index > index);
                    index = answer.index;
                    if answer.value.len() as u64 == WRITES {
                        return;
                    }
                }
            })
        })
        .collect();
    for number in 0..WRITES {
        let written = engine.write(set(&format!("p/{number}"), "x")).await;
        assert!(matches!(written, Ok(Written::Done(()))));
    }
    for reader in readers {
        tokio::time::timeout(LONG / 2, reader)
            .await
            .unwrap()
            .unwrap();
    }
}
