//! Why the embedded store cannot be opened, written or served.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error of the embedded store as a whole; requests that fail are answered over HTTP.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The file can be neither opened nor made.
    #[error(
        "open the store file {}; does its directory exist, and may it be written?",
        path.display()
    )]
    Open {
        /// The store file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another store has the file open.
    #[error(
        "open the store file {}: another process is using it; stop that one, or choose another file",
        path.display()
    )]
    Locked {
        /// The store file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error(
        "open the store file {}: it is not a store of this program ({detail}); choose another file",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it has or lacks.
        detail: String,
    },
    /// The file was a store and is damaged.
    #[error(
        "read the store file {}: it is damaged ({detail}); put a backup in its place, or remove it \
         to begin with an empty store",
        path.display()
    )]
    Corrupt {
        /// The store file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A change could not be made durable; it was not made at all.
    #[error("write the store file {}: {source}; is the disk full?", path.display())]
    Write {
        /// The store file.
        path: PathBuf,
        /// What the database said.
        source: Box<redb::Error>,
    },
    /// A write came after the end.
    #[error("write to the store: it is shutting down; ask again once it is back")]
    Stopped,
    /// The listener failed.
    #[error("serve the store: {0}")]
    Serve(#[source] io::Error),
}
