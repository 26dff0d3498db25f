//! Who this host is, across restarts and renamings.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::store::schema::NodeId;

#[derive(Debug, Error)]
pub enum NodeIdError {
    #[error("cannot keep this host's node id in {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} does not hold a node id of 16 hex digits: remove it to get a new one",
        path.display()
    )]
    Malformed { path: PathBuf },
}

/// The id in `<state_dir>/node-id`, made at random the first time.
pub fn load_or_create(state_dir: &Path) -> Result<NodeId, NodeIdError> {
    let path = state_dir.join("node-id");
    let failed = |source| NodeIdError::Io {
        path: path.clone(),
        source,
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = text.trim().parse();
            return id.map_err(|_| NodeIdError::Malformed { path });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    fs::create_dir_all(state_dir).map_err(failed)?;
    let id = NodeId::random();
    // Written aside first: a half-written id would stop every later start.
    let aside = state_dir.join("node-id.new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&aside)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        fs::rename(&aside, &path)
    };
    write().map_err(failed)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let id = load_or_create(&state).unwrap();
        assert_eq!(load_or_create(&state).unwrap(), id);
        fs::write(state.join("node-id"), "abc").unwrap();
        let message = load_or_create(&state).unwrap_err().to_string();
        assert!(message.contains("node-id does not hold"), "{message}");
    }
}
