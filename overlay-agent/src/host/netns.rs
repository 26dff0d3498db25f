//! Other network namespaces.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use thiserror::Error;
use tokio::runtime;

use super::netlink::{Netlink, NetlinkError};

/// `NSFS_MAGIC` of linux/magic.h: what a namespace file lives on.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

#[derive(Debug, Error)]
pub enum NetnsError {
    #[error("open network namespace {}: is the container running?", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is not a network namespace: a path like /run/netns/NAME or /proc/PID/ns/net is wanted",
        .0.display()
    )]
    NotNetns(PathBuf),
    #[error(
        "{} is the agent's own network namespace: an endpoint has to be in another one",
        .0.display()
    )]
    Own(PathBuf),
    #[error("enter network namespace {}", path.display())]
    Enter {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// A network namespace other than the caller's, kept alive while this exists.
#[derive(Debug)]
pub(super) struct Netns {
    pub(super) file: File,
    path: PathBuf,
}

impl Netns {
    pub(super) fn open(path: &Path) -> Result<Self, NetnsError> {
        let failed = |source| NetnsError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let kind = fstatfs(&file).map_err(|errno| failed(errno.into()))?;
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(NetnsError::NotNetns(path.to_owned()));
        }
        let own = File::open("/proc/thread-self/ns/net").map_err(failed)?;
        if identity(&own).map_err(failed)? == identity(&file).map_err(failed)? {
            return Err(NetnsError::Own(path.to_owned()));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// A netlink socket inside this namespace. A socket belongs to the namespace of the thread
    /// that made it, wherever it is used: a thread of its own enters, opens it and ends, so that
    /// no thread of the runtime ever changes its namespace.
    pub(super) fn netlink(&self) -> Result<Netlink, NetnsError> {
        let runtime = runtime::Handle::current();
        let failed = |source| NetnsError::Enter {
            path: self.path.clone(),
            source,
        };
        thread::scope(|scope| {
            thread::Builder::new()
                .spawn_scoped(scope, || {
                    setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
                        .map_err(|errno| failed(errno.into()))?;
                    let _context = runtime.enter();
                    Ok(Netlink::open()?)
                })
                .map_err(failed)?
                .join()
                .unwrap_or_else(|_| Err(failed(io::Error::other("the thread panicked"))))
        })
    }
}

/// Device and inode: two files are one namespace when these are equal (namespaces(7)).
fn identity(file: &File) -> io::Result<(u64, u64)> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}
