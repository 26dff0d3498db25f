//! A folder of one run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{names::unique, sweep::sweep};

/// A folder for logs, sockets and state, removed with its contents on drop.
#[derive(Debug)]
pub struct WorkDir(PathBuf);

impl WorkDir {
    /// Makes `<temp>/ovt-<pid>-<n>-<label>`.
    pub fn new(label: &str) -> Result<Self> {
        sweep();
        let path = std::env::temp_dir().join(unique(label));
        fs::create_dir_all(&path).with_context(|| format!("create folder {}", path.display()))?;
        Ok(Self(path))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes (or finds) a folder inside.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create folder {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("not removed: {}: {error}", self.0.display());
        }
    }
}
