//! The store's file: one redb database, one commit per write.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition, TableError, TableHandle as _,
};

use super::error::EmbeddedError;
use super::state::{Changes, Entry, Key, Session, SessionId, Stored};

/// An entry: create, modify and lock index, flags, session (16 bytes, or none), value.
type Row = (u64, u64, u64, u64, &'static [u8], &'static [u8]);

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("overlay-store");
const KV: TableDefinition<'_, &[u8], Row> = TableDefinition::new("kv");
const TOMBSTONES: TableDefinition<'_, &[u8], u64> = TableDefinition::new("tombstones");
/// Sessions as the API's JSON.
const SESSIONS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("sessions");

const FORMAT: &str = "format";
const INDEX: &str = "index";
const KV_INDEX: &str = "kv-index";
const SESSION_INDEX: &str = "session-index";

/// Changes with the layout of the tables.
const CURRENT_FORMAT: u64 = 1;

/// Everything is in memory, so the cache only serves the pages that a commit touches.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// The open file.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    database: Database,
}

impl Disk {
    /// Opens the file, or makes an empty store where there is none, and reads all of it.
    ///
    /// # Errors
    /// The file cannot be opened, is in use, is of another program, or is damaged.
    pub(super) fn open(path: &Path) -> Result<(Self, Stored), EmbeddedError> {
        // Networks and addresses are nobody else's business: the mode, not the umask, says so.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| open_failed(path, source))?;
        let backend = FileBackend::new(file).map_err(|err| refused(path, err))?;
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            // Without it, a file altered behind the database's back may panic when read.
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(|err| refused(path, err))?;
        let disk = Self {
            path: path.to_owned(),
            database,
        };
        // Empty also after a crash between the making of the file and of the tables.
        if disk.is_empty().map_err(|err| disk.corrupt(&err))? {
            disk.initialise().map_err(|err| disk.write_failed(err))?;
        } else {
            disk.check_format()?;
        }
        let stored = disk.load().map_err(|err| disk.corrupt(&err))?;
        Ok((disk, stored))
    }

    /// Makes one write durable: after this returns, it survives a power failure.
    ///
    /// # Errors
    /// The disk refused; nothing of the write is there.
    pub(super) fn store(&self, changes: &Changes) -> Result<(), EmbeddedError> {
        self.commit(changes).map_err(|err| self.write_failed(err))
    }

    /// Closes the file, so that another process can open it.
    ///
    /// # Errors
    /// What the database could not tidy up; the data is safe all the same.
    pub(super) fn close(self) -> Result<(), EmbeddedError> {
        let path = self.path;
        self.database.close().map_err(|err| EmbeddedError::Write {
            path,
            source: Box::new(err.into()),
        })
    }

    fn is_empty(&self) -> Result<bool, redb::Error> {
        let txn = self.database.begin_read()?;
        Ok(txn.list_tables()?.next().is_none())
    }

    fn initialise(&self) -> Result<(), redb::Error> {
        let txn = self.database.begin_write()?;
        txn.open_table(META)?.insert(FORMAT, CURRENT_FORMAT)?;
        txn.open_table(KV)?;
        txn.open_table(TOMBSTONES)?;
        txn.open_table(SESSIONS)?;
        txn.commit()?;
        Ok(())
    }

    fn check_format(&self) -> Result<(), EmbeddedError> {
        let read = || -> Result<Option<u64>, redb::Error> {
            let txn = self.database.begin_read()?;
            let format = match txn.open_table(META) {
                Ok(table) => table.get(FORMAT)?.map(|format| format.value()),
                Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
                    None
                }
                Err(err) => return Err(err.into()),
            };
            Ok(format)
        };
        let foreign = |detail| EmbeddedError::Foreign {
            path: self.path.clone(),
            detail,
        };
        match read().map_err(|err| self.corrupt(&err))? {
            Some(CURRENT_FORMAT) => Ok(()),
            Some(format) => Err(foreign(format!(
                "its format is {format}, this program reads format {CURRENT_FORMAT}"
            ))),
            None => Err(foreign(format!("it has no table {:?}", META.name()))),
        }
    }

    fn load(&self) -> Result<Stored, redb::Error> {
        let txn = self.database.begin_read()?;
        let meta = txn.open_table(META)?;
        let number = |name| -> Result<u64, redb::Error> {
            Ok(meta.get(name)?.map_or(0, |number| number.value()))
        };
        let mut stored = Stored {
            index: number(INDEX)?,
            kv_index: number(KV_INDEX)?,
            session_index: number(SESSION_INDEX)?,
            ..Stored::default()
        };
        for row in txn.open_table(KV)?.iter()? {
            let (key, row) = row?;
            let entry = entry_from(row.value())?;
            stored.kv.insert(Key::from(key.value()), Arc::new(entry));
        }
        for row in txn.open_table(TOMBSTONES)?.iter()? {
            let (key, index) = row?;
            stored
                .tombstones
                .insert(Key::from(key.value()), index.value());
        }
        for row in txn.open_table(SESSIONS)?.iter()? {
            let (id, json) = row?;
            let session: Session = serde_json::from_slice(json.value())
                .map_err(|err| redb::Error::Corrupted(format!("a session: {err}")))?;
            let id = SessionId::from_bytes(*id.value());
            stored.sessions.insert(id, Arc::new(session));
        }
        Ok(stored)
    }

    fn commit(&self, changes: &Changes) -> Result<(), redb::Error> {
        let txn = self.database.begin_write()?;
        {
            let mut meta = txn.open_table(META)?;
            meta.insert(INDEX, changes.index)?;
            if changes.touches_keys() {
                meta.insert(KV_INDEX, changes.index)?;
            }
            if !changes.sessions.is_empty() {
                meta.insert(SESSION_INDEX, changes.index)?;
            }
            let mut kv = txn.open_table(KV)?;
            for (key, entry) in &changes.kv {
                match entry {
                    Some(entry) => kv.insert(&**key, row_of(entry))?,
                    None => kv.remove(&**key)?,
                };
            }
            let mut tombstones = txn.open_table(TOMBSTONES)?;
            for key in &changes.tombstones {
                tombstones.insert(&**key, changes.index)?;
            }
            for key in &changes.reaped {
                tombstones.remove(&**key)?;
            }
            let mut sessions = txn.open_table(SESSIONS)?;
            for (id, session) in &changes.sessions {
                match session {
                    Some(session) => {
                        let json = serde_json::to_vec(&**session)
                            .map_err(|err| redb::Error::Io(io::Error::other(err)))?;
                        sessions.insert(id.as_bytes(), &*json)?;
                    }
                    None => {
                        sessions.remove(id.as_bytes())?;
                    }
                }
            }
        }
        txn.commit()?;
        Ok(())
    }

    fn write_failed(&self, err: redb::Error) -> EmbeddedError {
        EmbeddedError::Write {
            path: self.path.clone(),
            source: Box::new(err),
        }
    }

    fn corrupt(&self, err: &redb::Error) -> EmbeddedError {
        EmbeddedError::Corrupt {
            path: self.path.clone(),
            detail: err.to_string(),
        }
    }
}

fn open_failed(path: &Path, source: io::Error) -> EmbeddedError {
    EmbeddedError::Open {
        path: path.to_owned(),
        source,
    }
}

/// Tells what stands in the way from what the database says.
fn refused(path: &Path, err: DatabaseError) -> EmbeddedError {
    let path = path.to_owned();
    match err {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            EmbeddedError::Locked { path }
        }
        DatabaseError::Storage(StorageError::Io(err))
            if err.kind() == io::ErrorKind::InvalidData =>
        {
            EmbeddedError::Foreign {
                path,
                detail: err.to_string(),
            }
        }
        DatabaseError::Storage(StorageError::Io(source)) => EmbeddedError::Open { path, source },
        DatabaseError::UpgradeRequired(version) => EmbeddedError::Foreign {
            path,
            detail: format!("a database of version {version}"),
        },
        // The enum is open: whatever else keeps a database from being opened is in the file.
        other => EmbeddedError::Corrupt {
            path,
            detail: other.to_string(),
        },
    }
}

fn row_of(entry: &Entry) -> (u64, u64, u64, u64, &[u8], &[u8]) {
    let session: &[u8] = match &entry.session {
        Some(session) => session.as_bytes(),
        None => &[],
    };
    (
        entry.create_index,
        entry.modify_index,
        entry.lock_index,
        entry.flags,
        session,
        &entry.value,
    )
}

fn entry_from(row: (u64, u64, u64, u64, &[u8], &[u8])) -> Result<Entry, redb::Error> {
    let (create_index, modify_index, lock_index, flags, session, value) = row;
    let session = match session {
        [] => None,
        bytes => {
            let bytes = <[u8; 16]>::try_from(bytes)
                .map_err(|_| redb::Error::Corrupted("a lock's session id".to_owned()))?;
            Some(SessionId::from_bytes(bytes))
        }
    };
    Ok(Entry {
        value: value.to_vec(),
        flags,
        lock_index,
        session,
        create_index,
        modify_index,
    })
}

#[cfg(test)]
mod tests;
