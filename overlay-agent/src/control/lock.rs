//! One agent per run directory and per bpffs directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum LockError {
    #[error(
        "an agent{} is running on {}: stop it, or choose other directories for a second one \
         (--run-dir, --bpffs-dir, --state-dir)",
        pid.as_ref().map_or(String::new(), |pid| format!(" (pid {pid})")),
        dir.display()
    )]
    Held { dir: PathBuf, pid: Option<String> },
    #[error(
        "an agent with another run directory is using the pins in {}: stop it, or choose another \
         --bpffs-dir",
        dir.display()
    )]
    PinsHeld { dir: PathBuf },
    #[error("cannot lock {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Holds the run directory until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct RunLock {
    _file: Flock<File>,
}

impl RunLock {
    /// Makes the directory when it is missing.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("agent.lock");
        let failed = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(dir).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let read = file.read_to_string(&mut pid);
                let pid = read.ok().map(|_| pid.trim().to_owned());
                return Err(LockError::Held {
                    dir: dir.to_owned(),
                    pid: pid.filter(|pid| !pid.is_empty()),
                });
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Holds the directory of the pins, so that nobody with another run directory takes a data path
/// over, or apart, that an agent is filling.
#[derive(Debug)]
pub struct PinsLock {
    /// `None` while the directory does not exist: there is nothing to take over.
    dir: Option<Flock<File>>,
}

impl PinsLock {
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            path: dir.to_owned(),
            source,
        };
        let file = match File::open(dir) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self { dir: None }),
            Err(error) => return Err(failed(error)),
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { dir: Some(file) }),
            Err((_, Errno::EWOULDBLOCK)) => Err(LockError::PinsHeld {
                dir: dir.to_owned(),
            }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    /// The same once the directory is there.
    pub fn with_directory(self, dir: &Path) -> Result<Self, LockError> {
        match self.dir {
            Some(_) => Ok(self),
            None => Self::take(dir),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_have_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let pins = dir.path().join("pins");
        let lock = PinsLock::take(&pins).unwrap();
        fs::create_dir(&pins).unwrap();
        let lock = lock.with_directory(&pins).unwrap();
        let error = PinsLock::take(&pins).unwrap_err();
        assert!(matches!(error, LockError::PinsHeld { .. }), "{error:?}");
        drop(lock);
        PinsLock::take(&pins).unwrap();
    }

    #[test]
    fn second_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("run");
        let lock = RunLock::take(&dir).unwrap();
        let message = RunLock::take(&dir).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(
            message.starts_with(&format!("an agent (pid {pid}) is running on ")),
            "{message}"
        );
        drop(lock);
        RunLock::take(&dir).unwrap();
    }
}
