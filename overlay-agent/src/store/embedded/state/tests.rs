//! The rules of the state, with a clock that the test moves.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const ID: SessionId = SessionId::from_bytes([1; 16]);
const OTHER: SessionId = SessionId::from_bytes([2; 16]);

struct Store {
    state: State,
    now: Instant,
}

impl Store {
    fn new() -> Self {
        Self {
            state: State::default(),
            now: Instant::now(),
        }
    }

    /// Does a write and gives what it changed.
    fn write(&mut self, write: impl FnOnce(&mut Draft<'_>)) -> Changes {
        let mut draft = Draft::new(&self.state, self.now);
        write(&mut draft);
        let changes = draft.finish();
        self.state.apply(&changes, self.now);
        changes
    }

    fn run(&mut self, op: &Op) -> Result<Changes, OpError> {
        let mut result = Ok(());
        let changes = self.write(|draft| result = draft.run_one(op));
        result.map(|()| changes)
    }

    fn set(&mut self, key: &str, value: &str) -> Changes {
        self.run(&op(Verb::Set, key, value)).unwrap()
    }

    fn lock(&mut self, key: &str, session: SessionId) -> Result<Changes, OpError> {
        let session = session.to_string();
        self.run(&Op {
            session,
            ..op(Verb::Lock, key, "locked")
        })
    }

    fn create(&mut self, session: Session) {
        self.write(|draft| draft.create_session(session));
    }

    fn keep_house(&mut self) -> Changes {
        self.write(|draft| {
            draft.keep_house();
        })
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let listed = self.state.list(prefix.as_bytes()).value;
        listed
            .iter()
            .map(|(key, _)| String::from_utf8_lossy(key).into_owned())
            .collect()
    }

    fn holder(&self, key: &str) -> Option<SessionId> {
        self.state.get(key.as_bytes()).value.unwrap().session
    }
}

fn op(verb: Verb, key: &str, value: &str) -> Op {
    Op {
        verb,
        key: key.as_bytes().into(),
        value: value.into(),
        flags: 0,
        index: 0,
        session: String::new(),
    }
}

fn session(id: SessionId) -> Session {
    Session {
        id,
        name: String::new(),
        node: String::new(),
        lock_delay: 0,
        behavior: Behavior::Release,
        ttl: "10s".to_owned(),
        node_checks: None,
        service_checks: None,
        create_index: 0,
        modify_index: 0,
        lifetime: Some(10 * SECOND),
    }
}

#[test]
fn who_saw_an_empty_store_sees_the_first_write() {
    let mut store = Store::new();
    let seen = store.state.get(b"a").index;
    assert!(seen > 0, "an index of 0 does not block");
    assert!(store.state.sessions().index > 0);
    store.set("a", "1");
    assert!(store.state.get(b"a").index > seen);
}

#[test]
fn an_identical_write_changes_nothing() {
    let mut store = Store::new();
    let first = store.set("a", "1");
    let second = store.set("a", "1");
    assert!(!first.is_empty());
    assert!(second.is_empty());
    assert_eq!(second.index, first.index);
    let third = store.set("a", "2");
    assert_eq!(third.index, first.index + 1);
    let entry = store.state.get(b"a").value.unwrap();
    assert_eq!(entry.create_index, first.index);
    assert_eq!(entry.modify_index, third.index);
}

#[test]
fn a_prefix_has_the_index_of_its_last_change_also_if_that_was_a_deletion() {
    let mut store = Store::new();
    store.set("a/1", "1");
    store.set("a/2", "1");
    let deleted = store.run(&op(Verb::Delete, "a/2", "")).unwrap();
    store.set("b", "1");
    let listed = store.state.list(b"a/");
    assert_eq!(listed.index, deleted.index);
    assert_eq!(listed.watch, Watch::Prefix(Key::from(*b"a/")));

    let emptied = store.run(&op(Verb::DeleteTree, "a/", "")).unwrap();
    let last = store.set("b", "2");
    let listed = store.state.list(b"a/");
    assert_eq!(listed.index, emptied.index);
    assert_eq!(listed.watch, Watch::Prefix(Key::from(*b"a/")));
    // Below the deleted prefix nothing is remembered.
    let listed = store.state.list(b"a/1");
    assert_eq!(listed.index, last.index);
    assert_eq!(listed.watch, Watch::AnyKey);
}

#[test]
fn deleting_what_is_not_there_changes_nothing() {
    let mut store = Store::new();
    store.set("a", "1");
    for verb in [Verb::Delete, Verb::DeleteTree, Verb::DeleteCas] {
        let changes = store.run(&op(verb.clone(), "b", "")).unwrap();
        assert!(changes.is_empty(), "{verb:?}");
    }
}

#[test]
fn tombstones_are_reaped_together_and_in_time() {
    let mut store = Store::new();
    for key in ["a/1", "a/2", "b/1"] {
        store.set(key, "1");
    }
    let begin = store.now;
    store.run(&op(Verb::Delete, "a/1", "")).unwrap();
    store.now += 20 * SECOND;
    store.run(&op(Verb::Delete, "a/2", "")).unwrap();
    store.now += 60 * SECOND;
    store.run(&op(Verb::Delete, "b/1", "")).unwrap();
    assert_eq!(store.state.next_deadline(), Some(begin + TOMBSTONE_TTL));

    store.now = begin + TOMBSTONE_TTL - SECOND;
    assert!(store.keep_house().is_empty());
    store.now += SECOND;
    let last = store.state.kv_index;
    let kept = store.keep_house();
    assert_eq!(kept.reaped.len(), 2);
    assert_eq!(kept.index, last, "reaping has an index of its own");
    assert_eq!(store.state.list(b"a/").watch, Watch::AnyKey);
    assert_eq!(
        store.state.list(b"b/").watch,
        Watch::Prefix(Key::from(*b"b/"))
    );
    let deadline = begin + 80 * SECOND + TOMBSTONE_TTL;
    assert_eq!(store.state.next_deadline(), Some(deadline));
}

#[test]
fn a_transaction_that_fails_changes_nothing() {
    let mut store = Store::new();
    store.set("a", "1");
    let mut draft = Draft::new(&store.state, store.now);
    let errors = run_txn(
        &mut draft,
        &[
            op(Verb::Set, "b", "1"),
            op(Verb::Get, "none", ""),
            op(Verb::Delete, "a", ""),
            op(Verb::Cas, "a", "2"),
            op(Verb::CheckNotExists, "b", ""),
        ],
    )
    .unwrap_err();
    // The last but one is fine, as "a" is gone by then.
    let positions: Vec<usize> = errors.iter().map(|error| error.position).collect();
    assert_eq!(positions, [1, 4]);
    drop(draft);
    assert_eq!(store.names(""), ["a"]);
}

#[test]
fn a_transaction_has_one_index_and_sees_itself() {
    let mut store = Store::new();
    store.set("t/old", "1");
    let ops = [
        op(Verb::Set, "t/new", "1"),
        op(Verb::Delete, "t/old", ""),
        op(Verb::GetTree, "t/", ""),
        op(Verb::Set, "other", "1"),
    ];
    let mut results = Vec::new();
    let changes = store.write(|draft| results = run_txn(draft, &ops).unwrap());
    let keys: Vec<&[u8]> = results.iter().map(|result| &*result.key).collect();
    assert_eq!(keys, [&b"t/new"[..], b"t/new", b"other"]);
    let with_value: Vec<bool> = results.iter().map(|result| result.with_value).collect();
    assert_eq!(with_value, [false, true, false]);
    for result in &results {
        assert_eq!(result.entry.modify_index, changes.index);
    }
    assert_eq!(store.names(""), ["other", "t/new"]);
}

#[test]
fn a_lock_has_one_holder_and_survives_plain_writes() {
    let mut store = Store::new();
    store.create(session(ID));
    store.create(session(OTHER));
    store.lock("l", ID).unwrap();
    assert!(
        store.lock("l", ID).unwrap().is_empty(),
        "again by the holder"
    );
    let held = store.lock("l", OTHER).unwrap_err();
    assert_eq!(held, OpError::LockHeld("l".to_owned()));
    store.set("l", "plain");
    assert_eq!(store.holder("l"), Some(ID));

    let unlock = |id: SessionId| Op {
        session: id.to_string(),
        ..op(Verb::Unlock, "l", "free")
    };
    let refused = store.run(&unlock(OTHER)).unwrap_err();
    assert_eq!(refused, OpError::LockNotHeld("l".to_owned()));
    store.run(&unlock(ID)).unwrap();
    assert_eq!(store.holder("l"), None);
    store.lock("l", OTHER).unwrap();
    assert_eq!(store.holder("l"), Some(OTHER));
}

#[test]
fn a_session_that_is_not_renewed_loses_its_locks_after_twice_its_ttl() {
    let mut store = Store::new();
    store.create(session(ID));
    store.create(Session {
        behavior: Behavior::Delete,
        ..session(OTHER)
    });
    store.lock("released", ID).unwrap();
    store.lock("deleted", OTHER).unwrap();

    store.now += 15 * SECOND;
    assert!(store.state.renew(ID, store.now).is_some());
    store.now += 4 * SECOND;
    assert!(store.keep_house().is_empty());
    store.now += SECOND;
    let ended = store.keep_house();
    assert!(Watch::Sessions.is_woken_by(&ended));
    assert!(Watch::Key(Key::from(*b"deleted")).is_woken_by(&ended));
    assert_eq!(store.names(""), ["released"]);
    assert_eq!(store.holder("released"), Some(ID));

    store.now += 15 * SECOND;
    let before = store.state.get(b"released").index;
    store.keep_house();
    assert_eq!(store.holder("released"), None);
    assert!(store.state.get(b"released").index > before);
    assert!(store.state.renew(ID, store.now).is_none());
    assert_eq!(store.state.session(ID).value, None);
}

#[test]
fn a_session_without_a_ttl_lives_on() {
    let mut store = Store::new();
    store.create(Session {
        lifetime: None,
        ..session(ID)
    });
    assert_eq!(store.state.next_deadline(), None);
    store.now += 1_000_000 * SECOND;
    assert!(store.keep_house().is_empty());
    assert!(store.state.session(ID).value.is_some());
}

#[test]
fn a_dead_holder_keeps_the_key_from_others_for_the_lock_delay() {
    // what the session asked for, what it gets, in seconds
    for (asked, gets) in [(3, 3), (120, 60)] {
        let mut store = Store::new();
        store.create(Session {
            lock_delay: asked * 1_000_000_000,
            ..session(ID)
        });
        store.create(session(OTHER));
        store.lock("l", ID).unwrap();
        store.write(|draft| draft.destroy_session(ID));
        assert_eq!(store.holder("l"), None);
        let delayed = OpError::LockDelay("l".to_owned());
        store.now += (gets - 1) * SECOND;
        assert_eq!(store.lock("l", OTHER).unwrap_err(), delayed);
        assert!(delayed.is_refusal());
        store.now += SECOND;
        store.lock("l", OTHER).unwrap();
    }
}

#[test]
fn what_is_restored_is_what_was_stored_without_its_sessions() {
    let entry = Arc::new(Entry {
        value: b"1".to_vec(),
        session: Some(ID),
        create_index: 4,
        modify_index: 7,
        ..Entry::default()
    });
    let stored = Stored {
        index: 9,
        kv_index: 8,
        session_index: 9,
        kv: [(Key::from(*b"a"), entry)].into(),
        tombstones: [(Key::from(*b"t/"), 8)].into(),
        sessions: [(ID, Arc::new(session(ID)))].into(),
    };
    let now = Instant::now();
    let state = State::restore(stored, now);
    let mut store = Store { state, now };
    assert_eq!(store.state.list(b"t/").index, 8);
    assert_eq!(store.state.next_deadline(), Some(now + TOMBSTONE_TTL));
    let changes = store.write(|draft| {
        draft.destroy_all_sessions();
    });
    assert_eq!(changes.index, 10);
    assert_eq!(store.holder("a"), None);
    assert_eq!(store.state.get(b"a").index, 10);
    assert_eq!(store.state.sessions().value, []);
}
