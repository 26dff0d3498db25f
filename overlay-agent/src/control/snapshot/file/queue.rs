//! What the store is to be told: beside what was read of it, and as safe.

use redb::{Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{File, FileError};

/// By id of the endpoint, JSON.
pub(super) const QUEUE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("queue");

impl File {
    pub(in crate::control) fn queue(&mut self) -> Result<Vec<(String, Vec<u8>)>, FileError> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        self.using(|database, _| {
            let txn = database.begin_read()?;
            let mut entries = Vec::new();
            for row in txn.open_table(QUEUE)?.iter()? {
                let (id, json) = row?;
                entries.push((id.value().to_owned(), json.value().to_vec()));
            }
            Ok(entries)
        })
    }

    /// Writes or removes an entry; when this returns, it survives a power failure.
    pub(in crate::control) fn put(
        &mut self,
        id: &str,
        json: Option<&[u8]>,
    ) -> Result<(), FileError> {
        self.using(|database, _| {
            let mut txn = database.begin_write()?;
            txn.set_durability(Durability::Immediate)?;
            txn.set_quick_repair(true);
            {
                let mut queue = txn.open_table(QUEUE)?;
                match json {
                    Some(json) => queue.insert(id, json)?,
                    None => queue.remove(id)?,
                };
            }
            txn.commit()?;
            Ok(())
        })
    }
}
