//! The file: one redb database, which a kill or a power failure leaves as it was after the last commit.

mod queue;

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition,
    TableError,
};
use thiserror::Error;

use crate::store::KvPair;

/// What the file is and whose.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("overlay-snapshot");
/// The store's keys and values.
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// Prefixes below which every key is here.
const WHOLE: TableDefinition<'_, &str, ()> = TableDefinition::new("whole");

const FORMAT: &str = "format";
/// Changes with the tables, and with the layout of the store.
const CURRENT_FORMAT: &str = "1";
const PREFIX: &str = "prefix";
const NODE: &str = "node";
const STORE: &str = "store";
/// Unix time in seconds.
const CONTACT: &str = "contact";

/// The file is read once and written in small pieces.
const CACHE_BYTES: usize = 2 * 1024 * 1024;
/// How many entries are handed over at a time.
const PIECE: usize = 1000;

/// Who has read what is in the file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) store: String,
    pub(super) prefix: String,
    pub(super) node: String,
}

#[derive(Debug, Error)]
#[error("{}: {source}", path.display())]
pub(in crate::control) struct FileError {
    path: PathBuf,
    source: Box<redb::Error>,
}

/// What is said of the entries of a file.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Prefixes below which every key was there.
    pub(super) whole: Vec<String>,
    /// When the store was last heard of.
    pub(super) contact: SystemTime,
}

#[derive(Debug)]
pub(in crate::control) struct File {
    path: PathBuf,
    whose: Whose,
    database: Option<Database>,
}

/// Where a file goes that cannot be used.
pub(super) fn aside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".aside");
    name.into()
}

impl File {
    pub(super) fn new(path: PathBuf, whose: Whose) -> Self {
        Self {
            path,
            whose,
            database: None,
        }
    }

    /// Reads everything, in the order of the keys. `None` when there is nothing to be used: no file, one that is
    /// corrupt, or one of another store.
    pub(super) fn load(
        &mut self,
        mut take: impl FnMut(Vec<KvPair>),
    ) -> Result<Option<Loaded>, FileError> {
        if !self.path.exists() {
            return Ok(None);
        }
        self.using(|database, whose| {
            let txn = database.begin_read()?;
            let meta = txn.open_table(META)?;
            let Some(contact) = meta.get(CONTACT)? else {
                return Ok(None);
            };
            if meta
                .get(STORE)?
                .is_none_or(|store| store.value() != whose.store)
            {
                tracing::warn!("the snapshot is of a store at another address: it is not used");
                return Ok(None);
            }
            let contact = contact.value().parse().ok().map(Duration::from_secs);
            let contact = contact.and_then(|since| UNIX_EPOCH.checked_add(since));
            let contact = contact.ok_or_else(|| corrupted("the time of the last contact"))?;
            let mut piece = Vec::with_capacity(PIECE);
            for entry in txn.open_table(ENTRIES)?.iter()? {
                let (key, value) = entry?;
                piece.push(pair(key.value(), value.value()));
                if piece.len() == PIECE {
                    take(std::mem::replace(&mut piece, Vec::with_capacity(PIECE)));
                }
            }
            take(piece);
            let whole = txn.open_table(WHOLE)?;
            let whole = whole.iter()?.map(|row| Ok(row?.0.value().to_owned()));
            Ok(Some(Loaded {
                whole: whole.collect::<Result<_, redb::Error>>()?,
                contact,
            }))
        })
    }

    /// Makes changes, all or none of them.
    pub(super) fn write(
        &mut self,
        contact: SystemTime,
        change: impl FnOnce(&mut Writing<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), FileError> {
        self.using(|database, whose| {
            let mut txn = database.begin_write()?;
            // Else the whole file is gone through after a kill.
            txn.set_quick_repair(true);
            {
                let mut meta = txn.open_table(META)?;
                let since = contact.duration_since(UNIX_EPOCH).unwrap_or_default();
                meta.insert(CONTACT, since.as_secs().to_string().as_str())?;
                meta.insert(STORE, whose.store.as_str())?;
                change(&mut Writing {
                    entries: txn.open_table(ENTRIES)?,
                    whole: txn.open_table(WHOLE)?,
                })?;
            }
            txn.commit()?;
            Ok(())
        })
    }

    /// What fails leaves the file closed, because the database refuses to go on then; what is corrupt leaves it
    /// out of the way.
    fn using<T>(
        &mut self,
        act: impl FnOnce(&Database, &Whose) -> Result<T, redb::Error>,
    ) -> Result<T, FileError> {
        let database = match self.database.take() {
            Some(database) => Ok(database),
            None => open(&self.path, &self.whose),
        };
        let result = database.and_then(|database| {
            let value = act(&database, &self.whose)?;
            self.database = Some(database);
            Ok(value)
        });
        result.map_err(|error| {
            if is_corrupt(&error) {
                self.set_aside(&error);
            }
            FileError {
                path: self.path.clone(),
                source: Box::new(error),
            }
        })
    }

    fn set_aside(&self, why: &redb::Error) {
        let aside = aside(&self.path);
        let (file, to) = (self.path.display(), aside.display());
        match fs::rename(&self.path, &aside) {
            Ok(()) => tracing::error!("the snapshot {file} cannot be used: {why}; it is now {to}"),
            Err(error) => tracing::error!("cannot set {file} aside: {error}"),
        }
    }
}

/// A transaction.
pub(super) struct Writing<'a> {
    entries: Table<'a, &'static str, &'static [u8]>,
    whole: Table<'a, &'static str, ()>,
}

impl Writing<'_> {
    /// Makes what is after `from` and before `to` just these entries, which are in order.
    pub(super) fn level(
        &mut self,
        from: &str,
        to: &str,
        entries: &[(String, Vec<u8>)],
    ) -> Result<(), redb::Error> {
        let mut same = vec![false; entries.len()];
        let mut gone = Vec::new();
        let range = (Bound::Excluded(from), Bound::Excluded(to));
        for old in self.entries.range::<&str>(range)? {
            let (key, value) = old?;
            match entries.binary_search_by(|(new, _)| new.as_str().cmp(key.value())) {
                Ok(at) => same[at] = entries[at].1 == value.value(),
                Err(_) => gone.push(key.value().to_owned()),
            }
        }
        for key in &gone {
            self.entries.remove(key.as_str())?;
        }
        for ((key, value), _) in entries.iter().zip(same).filter(|(_, same)| !same) {
            self.entries.insert(key.as_str(), value.as_slice())?;
        }
        Ok(())
    }

    /// Below these prefixes, and no others, every key is there.
    pub(super) fn whole(&mut self, prefixes: &[String]) -> Result<(), redb::Error> {
        self.whole
            .retain(|prefix, ()| prefixes.iter().any(|p| p == prefix))?;
        for prefix in prefixes {
            self.whole.insert(prefix.as_str(), ())?;
        }
        Ok(())
    }
}

fn open(path: &Path, whose: &Whose) -> Result<Database, redb::Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let fresh = file.metadata()?.len() == 0;
    let opened = FileBackend::new(file)
        .and_then(|backend| {
            Builder::new()
                .set_cache_size(CACHE_BYTES)
                // Without it, a file altered behind the database's back may panic when read.
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)
        })
        .map_err(redb::Error::from)
        .and_then(|database| {
            claim(&database, whose)?;
            Ok(database)
        });
    if opened.is_err() && fresh {
        // Half a file is none.
        let _ = fs::remove_file(path);
    }
    opened
}

/// Makes an empty file `whose`; one of another node or prefix is as good as corrupt.
fn claim(database: &Database, whose: &Whose) -> Result<(), redb::Error> {
    let own = [
        (FORMAT, CURRENT_FORMAT),
        (PREFIX, whose.prefix.as_str()),
        (NODE, whose.node.as_str()),
    ];
    let read = database.begin_read()?;
    if read.list_tables()?.next().is_some() {
        let meta = match read.open_table(META) {
            Err(TableError::TableDoesNotExist(_)) => Err(corrupted("it is another program's")),
            meta => Ok(meta?),
        }?;
        for (name, wanted) in own {
            let found = meta.get(name)?;
            let found = found.as_ref().map_or("", |found| found.value());
            if found != wanted {
                return Err(corrupted(&format!(
                    "its {name} is `{found}`, not `{wanted}`"
                )));
            }
        }
        return Ok(());
    }
    drop(read);
    let txn = database.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        for (name, value) in own {
            meta.insert(name, value)?;
        }
        txn.open_table(ENTRIES)?;
        txn.open_table(WHOLE)?;
        txn.open_table(queue::QUEUE)?;
    }
    txn.commit()?;
    Ok(())
}

fn corrupted(what: &str) -> redb::Error {
    redb::Error::Corrupted(what.to_owned())
}

/// Whether the file is what is wrong, and not the disk.
fn is_corrupt(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ),
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_) => true,
        // The enum is open.
        _ => false,
    }
}

/// A key as the store would give it, but for its indexes.
fn pair(key: &str, value: &[u8]) -> KvPair {
    KvPair {
        key: key.to_owned(),
        value: value.to_vec(),
        create_index: 0,
        modify_index: 0,
        lock_index: 0,
        flags: 0,
        session: None,
    }
}

#[cfg(test)]
mod tests;
