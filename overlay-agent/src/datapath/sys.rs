//! The BPF system calls on pinned links that aya has no words for: which device a link is on,
//! and detaching it at once. Removing the pin alone detaches only when nobody holds the link any
//! more.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Commands of `bpf(2)` (linux/bpf.h, `enum bpf_cmd`).
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_DETACH: libc::c_int = 34;

/// A pinned link.
#[derive(Debug)]
pub(super) struct PinnedLink {
    fd: OwnedFd,
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// Kernel id of the attached program.
    pub(super) program: u32,
    /// The device it is on; 0 when that is gone.
    pub(super) ifindex: u32,
}

/// `union bpf_attr`, the member of `BPF_OBJ_GET`.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr`, the member of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `union bpf_attr`, the member of `BPF_LINK_DETACH`.
#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// `struct bpf_link_info` up to the device of an XDP or TCX link.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
}

impl PinnedLink {
    /// Opens a pinned link; `None` when nothing is pinned there.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attr = ObjGet {
            pathname: path.as_ptr().expose_provenance() as u64,
            bpf_fd: 0,
            file_flags: 0,
        };
        // SAFETY: `ObjGet` is what the command reads; `path` lives until it returns.
        match unsafe { bpf(BPF_OBJ_GET, &mut attr) } {
            Ok(fd) => Ok(Some(Self {
                // SAFETY: the kernel has just made the descriptor for us.
                fd: unsafe { OwnedFd::from_raw_fd(fd) },
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn info(&self) -> io::Result<LinkInfo> {
        let mut info = RawLinkInfo::default();
        let mut attr = InfoByFd {
            bpf_fd: self.fd.as_raw_fd().cast_unsigned(),
            info_len: size_of::<RawLinkInfo>() as u32,
            info: (&raw mut info).expose_provenance() as u64,
        };
        // SAFETY: `InfoByFd` is what the command reads; it writes at most `info_len` bytes to
        // `info`, which lives until it returns.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
        Ok(LinkInfo {
            program: info.prog_id,
            ifindex: info.ifindex,
        })
    }

    /// Detaches the program; the link stays as an empty shell.
    pub(super) fn detach(&self) -> io::Result<()> {
        let mut attr = LinkDetach {
            link_fd: self.fd.as_raw_fd().cast_unsigned(),
        };
        // SAFETY: `LinkDetach` is what the command reads.
        match unsafe { bpf(BPF_LINK_DETACH, &mut attr) } {
            Ok(_) => Ok(()),
            // The device is gone already.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// `bpf(2)`.
///
/// # Safety
///
/// `attr` has to be the member of `union bpf_attr` that `command` reads, and pointers in it have
/// to be valid until the call returns.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: the caller's promise; the size is the member's own.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    RawFd::try_from(result)
        .ok()
        .filter(|&fd| fd >= 0)
        .ok_or_else(io::Error::last_os_error)
}
