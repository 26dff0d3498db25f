//! Control groups, of whatever version the machine has mounted.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{names::unique, sweep::sweep};

const MOUNT: &str = "/sys/fs/cgroup";

/// Killed processes leave their group after a moment.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The name of a control group, at the top of every hierarchy, for others to make groups under.
/// Removed on drop, with all under it: nothing may run in it any more.
#[derive(Debug)]
pub struct Cgroup(String);

impl Cgroup {
    /// Names `ovt-<pid>-<n>-<label>`.
    #[must_use]
    pub fn new(label: &str) -> Self {
        sweep();
        Self(unique(label))
    }

    /// As `--cgroup-parent` takes it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", self.0)
    }

    /// Its folders in the hierarchies that have it.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let all = hierarchies().into_iter().map(|top| top.join(&self.0));
        all.filter(|folder| folder.is_dir()).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in self.folders() {
            if let Err(error) = remove(&folder) {
                eprintln!("control group not removed: {error:#}");
            }
        }
    }
}

/// The tops of all hierarchies: of version 2 one, of version 1 one for each set of controllers.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let mut tops = vec![PathBuf::from(MOUNT)];
    if let Ok(entries) = fs::read_dir(MOUNT) {
        tops.extend(entries.flatten().map(|entry| entry.path()));
    }
    tops
}

/// Removes a group and those under it, deepest first.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            removed => return removed.with_context(|| format!("remove {}", folder.display())),
        }
    }
}
