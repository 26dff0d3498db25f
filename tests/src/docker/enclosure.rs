//! What makes a network namespace a machine that Docker can have for itself: mounts and process
//! ids of its own.
//!
//! Everything that Docker starts is in the PID namespace, so the end of its init is the end of all
//! of it, and the mounts go with the last process. Nothing has to be found and taken down.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};

use crate::{netns::Netns, process::Daemon, workdir::WorkDir};

const TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// The file that says that the mounts are made.
const READY: &str = "enclosed";

/// An own /run, which Docker and its parts take their paths in for granted; an own /sys, which
/// shows the devices of its network namespace, with the machine's cgroups; a writable /etc that
/// writes nothing. Then the reaping of orphans, until SIGTERM.
const ENCLOSE: &str = r#"
set -e
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/docker/plugins /run/etc/upper /run/etc/work /run/cgroup
mount --bind "$PLUGINS" /run/docker/plugins
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount -l /run/cgroup
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work etc /etc
: > "$READY"
exec "$TINI" -- sleep infinity
"#;

/// Namespaces around a network namespace. Dropped, all that runs in it is killed.
#[derive(Debug)]
pub(super) struct Enclosure {
    /// Is in the namespaces itself, but for the PID namespace, which holds its child.
    keeper: Daemon,
    net: File,
    mounts: File,
    pids: File,
}

impl Enclosure {
    /// Encloses `netns`. There, `plugins` is Docker's folder for plugin sockets, and `tini` the
    /// first process.
    pub(super) fn new(netns: &Netns, plugins: &Path, tini: &Path, work: &WorkDir) -> Result<Self> {
        let ready = work.path().join(READY);
        // An earlier enclosure's would let programs in before the mounts are made.
        if ready.exists() {
            fs::remove_file(&ready).with_context(|| format!("remove {}", ready.display()))?;
        }
        let mut command = netns.command("unshare")?;
        command
            .args(["--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", ENCLOSE])
            .env("PLUGINS", plugins)
            .env("TINI", tini)
            .env("READY", &ready);
        let log = work.path().join("enclosure.log");
        let mut keeper = Daemon::spawn("the enclosure", command, &log)?;
        keeper.wait_ready(TIMEOUT, || {
            fs::metadata(&ready).with_context(|| format!("find {}", ready.display()))?;
            Ok(())
        })?;
        let pid = keeper.pid();
        let open = |name: &str| {
            let path = format!("/proc/{pid}/ns/{name}");
            File::open(&path).with_context(|| format!("open {path}"))
        };
        Ok(Self {
            net: open("net")?,
            mounts: open("mnt")?,
            pids: open("pid_for_children")?,
            keeper,
        })
    }

    /// Starts a program inside. Its path and its log's are those of the outside.
    pub(super) fn spawn(&self, name: &str, mut command: Command, log: &Path) -> Result<Daemon> {
        let (net, mounts) = (self.net.try_clone()?, self.mounts.try_clone()?);
        // SAFETY: between fork and exec only the system call setns runs; the descriptors stay open
        // as long as the command, which owns them through this closure.
        unsafe {
            command.pre_exec(move || {
                for (namespace, kind) in [(&net, libc::CLONE_NEWNET), (&mounts, libc::CLONE_NEWNS)]
                {
                    if libc::setns(namespace.as_raw_fd(), kind) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        // A process never changes its PID namespace; what a thread enters is its children's.
        thread::scope(|scope| {
            let spawned = scope.spawn(|| {
                setns(self.pids.as_fd(), CloneFlags::CLONE_NEWPID)
                    .with_context(|| format!("enter the PID namespace for {name}"))?;
                Daemon::spawn(name, command, log)
            });
            spawned
                .join()
                .map_err(|_| anyhow!("the thread that starts {name} panicked"))?
        })
    }

    /// Kills all that runs in it. That is short, so Ctrl-C does not end the waiting: folders and
    /// control groups can be removed only then.
    pub(super) fn end(&mut self) -> Result<()> {
        self.keeper.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + TIMEOUT;
        // The keeper waits for the init, and the kernel lets an init end last.
        while self.keeper.poll()?.is_none() {
            ensure!(Instant::now() < deadline, "not within {TIMEOUT:?}");
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Where a path of the inside is, seen from the outside.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.keeper.pid()))
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("Docker's processes may be left: {error:#}");
        }
    }
}
