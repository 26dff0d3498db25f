//! A route netlink socket and what can go wrong with it.

use std::io;

use rtnetlink::Handle;
use thiserror::Error;

/// A route netlink socket of one network namespace: the one its creator was in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(super) handle: Handle,
}

#[derive(Debug, Error)]
pub enum NetlinkError {
    #[error("open a netlink socket")]
    Open(#[source] io::Error),
    #[error("netlink: {action}")]
    Request {
        /// What was attempted, on what.
        action: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("set {path}")]
    Setting {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl NetlinkError {
    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Setting { source, .. } => source.raw_os_error(),
            Self::Request { source, .. } => errno(source),
        }
    }
}

/// The kernel's error number of a refused request.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

/// Whether the kernel says that the object is not there.
pub(super) fn is_absent(error: &rtnetlink::Error) -> bool {
    matches!(
        errno(error),
        Some(libc::ENODEV | libc::ENOENT | libc::ESRCH)
    )
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// Has to be called on a tokio runtime, which then runs the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}

/// Says what was attempted when a request fails.
pub(super) trait Attempt<T> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T, NetlinkError>;
}

impl<T> Attempt<T> for Result<T, rtnetlink::Error> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T, NetlinkError> {
        self.map_err(|source| NetlinkError::Request {
            action: action(),
            source,
        })
    }
}
