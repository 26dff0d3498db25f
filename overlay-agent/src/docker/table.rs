//! What Docker has asked for and does not tell again, kept in files: first of all, which Docker network is
//! which network of the store. After a restart of everything Docker asks by its ids before it can be asked for
//! names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use overlay_common::net::Vni;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::control::json_file::JsonFile;
use crate::store::schema::NetworkRecord;

/// By Docker's ids.
pub(super) type Entries<V> = BTreeMap<String, V>;

/// The network that a Docker network is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) vni: Vni,
    pub(super) subnets: Vec<IpNet>,
    /// Made by this agent, for a network that was there already.
    pub(super) twin: bool,
}

impl Entry {
    pub(super) fn of(name: &str, record: &NetworkRecord, twin: bool) -> Self {
        Self {
            name: name.to_owned(),
            vni: record.vni,
            subnets: record.subnets.clone(),
            twin,
        }
    }
}

/// A file of entries.
#[derive(Debug)]
pub(super) struct Table<V> {
    file: JsonFile,
    entries: watch::Sender<Entries<V>>,
}

impl<V: Clone + PartialEq + Serialize + DeserializeOwned> Table<V> {
    /// What an earlier run has left; nothing where that cannot be read: Docker tells it again.
    pub(super) fn load(file: PathBuf) -> Self {
        let file = JsonFile::new(file);
        Self {
            entries: watch::Sender::new(file.load()),
            file,
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<V> {
        self.entries.borrow().get(id).cloned()
    }

    pub(super) fn all(&self) -> Entries<V> {
        self.entries.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Entries<V>> {
        self.entries.subscribe()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Entries<V>)) {
        let changed = self.entries.send_if_modified(|entries| {
            let before = entries.clone();
            change(entries);
            *entries != before
        });
        if changed {
            self.file.keep(&*self.entries.borrow());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("docker.json");
        let load = || Table::<Entry>::load(file.clone());
        let entry = Entry {
            name: "blue".into(),
            vni: Vni::new(7).unwrap(),
            subnets: vec!["10.64.0.0/16".parse().unwrap()],
            twin: true,
        };
        let table = load();
        table.change(|entries| {
            entries.insert("abc".into(), entry.clone());
        });
        assert_eq!(load().get("abc"), Some(entry));
        table.change(BTreeMap::clear);
        assert_eq!(load().all(), Entries::new());
        std::fs::write(&file, "{").unwrap();
        assert_eq!(load().all(), Entries::new());
    }
}
