//! Network namespaces: one per host, per container, per switch.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns},
};

use crate::{
    command::output,
    names::{require_root, unique},
    sweep::sweep,
};

/// Where `ip netns` keeps its names.
pub const FOLDER: &str = "/run/netns";

/// A network namespace with `lo` up. Removed on drop, with the processes left in it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    /// Somebody else's, who ends what runs in it.
    borrowed: bool,
}

impl Netns {
    /// Makes `ovt-<pid>-<n>-<label>`.
    pub fn new(label: &str) -> Result<Self> {
        require_root()?;
        sweep();
        let name = unique(label);
        output(Command::new("ip").args(["netns", "add", &name]))?;
        let netns = Self {
            name,
            borrowed: false,
        };
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Gives a namespace that somebody else made, as a container's `/proc/<pid>/ns/net`, a name
    /// like those of [`Self::new`]. On drop the name goes, and nothing else.
    pub fn borrow(label: &str, namespace: &Path) -> Result<Self> {
        require_root()?;
        sweep();
        let this = Self {
            name: unique(label),
            borrowed: true,
        };
        let place = this.path();
        File::create_new(&place).with_context(|| format!("create {}", place.display()))?;
        // Not by mount(8), which looks for what the link says.
        mount(
            Some(namespace),
            &place,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .with_context(|| format!("bind {} to {}", namespace.display(), place.display()))?;
        Ok(this)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `--netns` of the agent takes.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(FOLDER).join(&self.name)
    }

    /// `ip <args>` in this namespace; its standard output.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        output(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// A command that will run in this namespace, and otherwise in the caller's surroundings:
    /// `ip netns exec` would remount /sys and hide cgroups and pins.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let namespace = self.open()?;
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only the system call setns runs; the descriptor stays
        // open as long as the command, which owns it through this closure.
        unsafe {
            command.pre_exec(move || {
                if libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) == 0 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            });
        }
        Ok(command)
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it. Sockets made
    /// there stay in the namespace and can be used from anywhere.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = self.open()?;
        let name = &self.name;
        thread::scope(|scope| {
            let handle = scope.spawn(move || {
                enter(&namespace, name)?;
                work()
            });
            handle
                .join()
                .map_err(|_| anyhow!("the work in the namespace {name} panicked"))?
        })
    }

    /// Starts `work` on a thread of its own inside the namespace, and does not wait for it.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let namespace = self.open()?;
        let name = self.name.clone();
        Ok(thread::spawn(move || {
            enter(&namespace, &name)?;
            work()
        }))
    }

    /// Sets a `net.…` kernel setting of this namespace, as in `sysctl("net.ipv4.ip_forward", "1")`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        // The files under /proc/sys/net show the namespace of the thread that opens them.
        self.run(|| fs::write(&path, value).with_context(|| format!("set {key} to {value}")))
    }

    /// The first IPv4 address of a device.
    pub fn ipv4(&self, device: &str) -> Result<Ipv4Addr> {
        let text = self.ip(&["-json", "-4", "addr", "show", "dev", device])?;
        let links: serde_json::Value =
            serde_json::from_str(&text).context("read `ip -json addr`")?;
        let address = links[0]["addr_info"][0]["local"]
            .as_str()
            .with_context(|| {
                format!(
                    "device {device} in the namespace {} has no IPv4 address",
                    self.name
                )
            })?;
        address
            .parse()
            .with_context(|| format!("address {address} of {device}"))
    }

    /// Joins two namespaces by a pair of virtual Ethernet devices, both up.
    pub fn connect(&self, device: &str, other: &Self, other_device: &str) -> Result<()> {
        output(
            Command::new("ip")
                .args(["link", "add", device, "netns", &self.name, "type", "veth"])
                .args(["peer", "name", other_device, "netns", &other.name]),
        )?;
        self.ip(&["link", "set", device, "up"])?;
        other.ip(&["link", "set", other_device, "up"])?;
        Ok(())
    }

    fn open(&self) -> Result<File> {
        let path = self.path();
        File::open(&path).with_context(|| format!("open the network namespace {}", path.display()))
    }
}

/// Moves the calling thread.
fn enter(namespace: &File, name: &str) -> Result<()> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("enter the network namespace {name}"))
}

impl Drop for Netns {
    fn drop(&mut self) {
        let removed = if self.borrowed {
            delete(&self.name)
        } else {
            remove(&self.name)
        };
        if let Err(error) = removed {
            eprintln!("namespace not removed: {error:#}");
        }
    }
}

/// Kills what runs in the namespace and deletes it. Collects nothing: both steps are tried.
pub(crate) fn remove(name: &str) -> Result<()> {
    let killed = kill_all_in(name);
    delete(name)?;
    killed
}

/// Takes the name away. The namespace lives as long as processes are in it.
fn delete(name: &str) -> Result<()> {
    // A second Ctrl-C, meant to hurry, must not end the cleaning up.
    output(
        Command::new("ip")
            .process_group(0)
            .args(["netns", "del", name]),
    )
    .map(drop)
}

/// Processes in a namespace that only this harness made were started by this harness.
fn kill_all_in(name: &str) -> Result<()> {
    let pids = output(
        Command::new("ip")
            .process_group(0)
            .args(["netns", "pids", name]),
    )?;
    for pid in pids.split_whitespace() {
        let pid: i32 = pid.parse().with_context(|| format!("process id {pid}"))?;
        if pid.unsigned_abs() == std::process::id() {
            bail!("this process itself is in the namespace {name}");
        }
        let killed =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        match killed {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("kill process {pid}")),
        }
    }
    Ok(())
}
