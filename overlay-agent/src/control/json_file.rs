//! A small file of what outlives the agent.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Debug)]
pub(crate) struct JsonFile(PathBuf);

impl JsonFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// What an earlier run has left; nothing where that cannot be read.
    pub(crate) fn load<T: DeserializeOwned + Default>(&self) -> T {
        let bytes = fs::read(&self.0).ok();
        let value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        value.unwrap_or_default()
    }

    /// Takes the place of what is there. What cannot be kept is told, and nothing else comes of it.
    pub(crate) fn keep<T: Serialize + ?Sized>(&self, value: &T) {
        if let Err(error) = self.replace(value) {
            tracing::warn!("cannot keep {}: {error}", self.0.display());
        }
    }

    /// Whole or not at all.
    fn replace<T: Serialize + ?Sized>(&self, value: &T) -> io::Result<()> {
        let part = self.0.with_extension("part");
        fs::write(&part, serde_json::to_vec(value)?)?;
        fs::rename(&part, &self.0)
    }
}
