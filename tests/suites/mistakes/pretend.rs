//! Lets a program see another host than this one.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Without any capability, as any user but root is.
pub fn as_nobody(command: &mut Command) {
    const NOBODY: u32 = 65534;
    before_exec(command, || {
        // SAFETY: plain numbers; the list of groups is empty.
        let done = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(NOBODY) == 0
                && libc::setuid(NOBODY) == 0
        };
        checked(done)
    });
}

/// The kernel names itself 2.6.x to a program that asks for it, as `setarch --uname-2.6` does.
pub fn as_linux_2_6(command: &mut Command) {
    /// linux/personality.h
    const UNAME26: libc::c_ulong = 0x0002_0000;
    before_exec(command, || {
        // SAFETY: a plain number.
        checked(unsafe { libc::personality(UNAME26) } != -1)
    });
}

/// In a mount namespace of its own, `/sys/fs/bpf` is an ordinary directory.
pub fn without_bpffs(command: &mut Command) {
    before_exec(command, || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        let (kind, flags) = (Some("tmpfs"), MsFlags::empty());
        mount(kind, tests::bpffs::MOUNT, kind, flags, None::<&str>)?;
        Ok(())
    });
}

/// bpf(2) knows no `BPF_PROG_QUERY`, as on a kernel without TCX it knows none of its hooks.
pub fn without_tcx(command: &mut Command) {
    /// linux/bpf.h
    const BPF_PROG_QUERY: u32 = 16;
    before_exec(command, || {
        let word = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let give = (libc::BPF_RET | libc::BPF_K) as u16;
        let refuse = libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32;
        let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        // struct seccomp_data: the number, then, from byte 16, the arguments.
        let mut program = [
            op(word, 0, 0, 0),
            op(equal, 0, 3, libc::SYS_bpf as u32),
            op(word, 0, 0, 16),
            op(equal, 0, 1, BPF_PROG_QUERY),
            op(give, 0, 0, refuse),
            op(give, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: the filter and the program it points to outlive the call, which copies them.
        checked(unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            ) == 0
        })
    });
}

/// Runs in the child between fork and exec, after the harness's own hook has entered the
/// namespace.
fn before_exec(
    command: &mut Command,
    hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the hooks below make system calls only, and allocate nothing.
    unsafe {
        command.pre_exec(hook);
    }
}

fn checked(done: bool) -> io::Result<()> {
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
