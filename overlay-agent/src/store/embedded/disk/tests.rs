use super::*;
use crate::store::embedded::state::Behavior;

fn entry(value: &[u8], session: Option<SessionId>) -> Arc<Entry> {
    Arc::new(Entry {
        value: value.to_vec(),
        flags: u64::MAX,
        lock_index: 3,
        session,
        create_index: 5,
        modify_index: 9,
    })
}

#[test]
fn what_was_stored_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let id = SessionId::from_bytes([3; 16]);
    let session = Arc::new(Session {
        id,
        name: "n".to_owned(),
        node: "here".to_owned(),
        lock_delay: 15_000_000_000,
        behavior: Behavior::Delete,
        ttl: "15s".to_owned(),
        node_checks: Some(Vec::new()),
        service_checks: None,
        create_index: 9,
        modify_index: 9,
        lifetime: None,
    });
    let (disk, stored) = Disk::open(&path).unwrap();
    assert_eq!(stored, Stored::default());
    let key = Key::from(*b"not \xff text");
    let written = Changes {
        index: 9,
        kv: [
            (key.clone(), Some(entry(b"\0value", Some(id)))),
            (Key::from(*b"empty"), Some(entry(b"", None))),
        ]
        .into(),
        tombstones: [Key::from(*b"gone/"), Key::from(*b"long gone/")].into(),
        sessions: [(id, Some(session.clone()))].into(),
        ..Changes::default()
    };
    disk.store(&written).unwrap();
    disk.close().unwrap();

    let (disk, stored) = Disk::open(&path).unwrap();
    let expected = Stored {
        index: 9,
        kv_index: 9,
        session_index: 9,
        kv: [
            (key.clone(), entry(b"\0value", Some(id))),
            (Key::from(*b"empty"), entry(b"", None)),
        ]
        .into(),
        tombstones: [(Key::from(*b"gone/"), 9), (Key::from(*b"long gone/"), 9)].into(),
        sessions: [(id, session)].into(),
    };
    assert_eq!(stored, expected);

    let deleted = Changes {
        index: 12,
        kv: [(key, None)].into(),
        reaped: vec![Key::from(*b"long gone/")],
        ..Changes::default()
    };
    disk.store(&deleted).unwrap();
    let ended = Changes {
        index: 13,
        sessions: [(id, None)].into(),
        ..Changes::default()
    };
    disk.store(&ended).unwrap();
    disk.close().unwrap();
    let (_disk, stored) = Disk::open(&path).unwrap();
    let expected = Stored {
        index: 13,
        kv_index: 12,
        session_index: 13,
        kv: [(Key::from(*b"empty"), entry(b"", None))].into(),
        tombstones: [(Key::from(*b"gone/"), 9)].into(),
        ..Stored::default()
    };
    assert_eq!(stored, expected);
}

#[test]
fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let _disk = Disk::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_database_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("somebody's");
    let database = Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(table).unwrap().insert("x", 1).unwrap();
    txn.commit().unwrap();
    drop(database);
    let err = Disk::open(&path).unwrap_err();
    assert!(matches!(err, EmbeddedError::Foreign { .. }), "{err}");
}

#[test]
fn a_store_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (disk, _) = Disk::open(&path).unwrap();
    let txn = disk.database.begin_write().unwrap();
    let newer = CURRENT_FORMAT + 1;
    txn.open_table(META).unwrap().insert(FORMAT, newer).unwrap();
    txn.commit().unwrap();
    disk.close().unwrap();
    let err = Disk::open(&path).unwrap_err();
    assert!(err.to_string().contains("format 1"), "{err}");
}

#[test]
fn a_file_altered_behind_the_back_is_refused_and_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (disk, _) = Disk::open(&path).unwrap();
    let marker = b"a value that is easy to find".repeat(4);
    let written = Changes {
        index: 9,
        kv: [(Key::from(*b"a"), Some(entry(&marker, None)))].into(),
        ..Changes::default()
    };
    disk.store(&written).unwrap();
    disk.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = (bytes.windows(marker.len()))
        .position(|part| part == marker)
        .unwrap();
    bytes[at] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    let err = Disk::open(&path).unwrap_err();
    assert!(matches!(err, EmbeddedError::Corrupt { .. }), "{err}");
}
