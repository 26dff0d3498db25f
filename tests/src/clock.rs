//! A clock of a process's own, which can be set while it runs. The machine's stays what it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{packages, sweep::is_alive};

/// The library makes a semaphore and shared memory for each process, and leaves them when that is killed.
const SHARED: &str = "/dev/shm";
const LEFT: [&str; 2] = ["faketime_shm_", "sem.faketime_sem_"];

/// The time of day, for programs that are started with its [`environment`](Self::environment). Their timers go on as
/// before: what is set is `CLOCK_REALTIME` alone.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One that is right, kept in a file of this folder.
    pub fn new(folder: &Path) -> Result<Self> {
        let clock = Self {
            library: packages::faketime()?,
            file: folder.join("clock"),
        };
        clock.set(0)?;
        Ok(clock)
    }

    /// From now on it is so many seconds ahead, or behind.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // Whole or not at all: the file is read whenever somebody looks at the clock.
        let part = self.file.with_extension("part");
        fs::write(&part, format!("{seconds:+}"))
            .and_then(|()| fs::rename(&part, &self.file))
            .with_context(|| format!("set the clock in {}", self.file.display()))
    }

    pub fn environment(&self) -> Result<Vec<(&'static str, &str)>> {
        let [library, file] = [&self.library, &self.file].map(|path| path.to_str());
        Ok(vec![
            ("LD_PRELOAD", library.context("a path")?),
            ("FAKETIME_TIMESTAMP_FILE", file.context("a path")?),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ])
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        for entry in fs::read_dir(SHARED).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let pid = LEFT.iter().find_map(|prefix| name.strip_prefix(prefix));
            let pid = pid.and_then(|pid| pid.parse().ok());
            if pid.is_some_and(|pid| !is_alive(pid)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
