//! Other network namespaces.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use thiserror::Error;
use tokio::runtime;

use super::netlink::{Netlink, NetlinkError};

/// `NSFS_MAGIC` of linux/magic.h: what a namespace file lives on.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// The calling thread's.
const OWN: &str = "/proc/thread-self/ns/net";
/// Of the devices that the calling thread's namespace has or gets.
const DISABLE_IPV6: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

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
    #[error("make a network namespace")]
    Make(#[source] io::Error),
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
        let own = File::open(OWN).map_err(failed)?;
        if identity(&own).map_err(failed)? == identity(&file).map_err(failed)? {
            return Err(NetnsError::Own(path.to_owned()));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// A new one, without IPv6. It ends with this value and the last socket in it.
    pub(super) fn make() -> Result<Self, NetnsError> {
        let made = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            // Where IPv6 is not there, or settings may not be changed, there is some chatter at most.
            let _ = fs::write(DISABLE_IPV6, "1");
            File::open(OWN)
        });
        Ok(Self {
            file: made.map_err(NetnsError::Make)?,
            path: OWN.into(),
        })
    }

    /// A netlink socket inside this namespace.
    pub(super) fn netlink(&self) -> Result<Netlink, NetnsError> {
        let runtime = runtime::Handle::current();
        self.enter(move || {
            let _context = runtime.enter();
            Ok(Netlink::open()?)
        })?
    }

    /// Does something inside this namespace. A socket belongs to the namespace of the thread that made it,
    /// wherever it is used: a thread of its own enters, opens it and ends, so that no thread of the runtime
    /// ever changes its namespace.
    pub(super) fn enter<T: Send>(
        &self,
        inside: impl FnOnce() -> T + Send,
    ) -> Result<T, NetnsError> {
        let entered = in_thread(|| {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(inside())
        });
        entered.map_err(|source| NetnsError::Enter {
            path: self.path.clone(),
            source,
        })
    }
}

fn in_thread<T: Send>(run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, run)?;
        let panicked = |_| Err(io::Error::other("the thread panicked"));
        thread.join().unwrap_or_else(panicked)
    })
}

/// Device and inode: two files are one namespace when these are equal (namespaces(7)).
fn identity(file: &File) -> io::Result<(u64, u64)> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}
