//! A real Docker on a host: dockerd and containerd in the host's network namespace, with mounts,
//! process ids and control groups that no other Docker on this machine sees.

mod cli;
mod containerd;
mod enclosure;
mod image;
mod programs;
mod version;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

pub use self::cli::IMAGE;
pub use self::version::{DockerVersion, VERSION_ENV};
use self::{enclosure::Enclosure, programs::Programs};
use crate::{cgroup::Cgroup, http, lab::Host, process::Daemon, workdir::WorkDir};

/// dockerd waits 31 s at its start for a network plugin that is not there.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Containers are asked to end, which an init that takes no notice of SIGTERM does after 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// Of a Unix socket's path, with the zero at its end.
const SOCKET_PATH: usize = 108;

/// How dockerd is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Containers outlive dockerd.
    pub live_restore: bool,
    /// More arguments, as in `["--dns", "169.254.53.53"]`.
    pub args: Vec<String>,
}

/// A host's Docker. Dropped in this order: its processes and containers, its control groups, its
/// folders.
#[derive(Debug)]
pub struct Docker {
    /// For the next start.
    pub options: Options,
    label: String,
    dockerd: Option<Daemon>,
    containerd: Daemon,
    enclosure: Enclosure,
    programs: Programs,
    plugins: PathBuf,
    cgroup: Cgroup,
    work: WorkDir,
}

impl Host {
    /// Where this host's Docker looks for the sockets of plugins: its `/run/docker/plugins`.
    pub fn plugins(&self) -> Result<PathBuf> {
        self.work().folder("plugins")
    }
}

impl Docker {
    /// Starts the version that the environment chooses, and waits until it answers.
    pub fn start(host: &Host, options: Options) -> Result<Self> {
        let mut docker = Self::new(host, DockerVersion::from_env()?, options)?;
        docker.spawn()?;
        docker.wait_ready(START_TIMEOUT)?;
        Ok(docker)
    }

    /// Everything but dockerd itself.
    pub fn new(host: &Host, version: DockerVersion, options: Options) -> Result<Self> {
        let work = WorkDir::new("docker")?;
        let programs = Programs::get(version, &work)?;
        let plugins = host.plugins()?;
        let tini = programs.path("usr/bin/tini-static");
        let cgroup = Cgroup::new("docker");
        let enclosure = Enclosure::new(host.netns(), &plugins, &tini, &work)?;
        let label = host.label().to_owned();
        let containerd = containerd::start(&label, &programs, &enclosure, &work)?;
        Ok(Self {
            options,
            label,
            dockerd: None,
            containerd,
            enclosure,
            programs,
            plugins,
            cgroup,
            work,
        })
    }

    /// Starts dockerd and does not wait.
    pub fn spawn(&mut self) -> Result<()> {
        let work = self.work.path();
        let mut command = self.programs.command("usr/sbin/dockerd");
        command
            .args(["--host", &self.url()?])
            .args(flag("--data-root", &work.join("data")))
            .args(flag("--exec-root", &work.join("exec")))
            .args(flag("--pidfile", &self.pidfile()))
            .args(flag("--containerd", &containerd::socket(&self.work)))
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--cgroup-parent", &self.cgroup.path()])
            .args(&self.options.args);
        if self.options.live_restore {
            command.arg("--live-restore");
        }
        let name = format!("the dockerd of {}", self.label);
        let log = work.join("dockerd.log");
        self.dockerd = Some(self.enclosure.spawn(&name, command, &log)?);
        Ok(())
    }

    /// Waits until the API answers.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        let socket = self.socket();
        self.dockerd()?.wait_ready(timeout, || {
            let answer = http::request_unix(&socket, "GET", "/_ping", "")?;
            ensure!(answer.body == "OK", "{answer:?}");
            Ok(())
        })
    }

    /// SIGTERM, then waits for the end. Without live restore the containers end first.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.dockerd()?.stop(STOP_TIMEOUT)
    }

    /// SIGKILL to dockerd: containers and containerd go on.
    pub fn kill9(&mut self) -> Result<()> {
        self.dockerd()?.kill9()
    }

    /// Stops dockerd if it runs, starts it again on the same data, and waits until it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.spawn()?;
        self.wait_ready(START_TIMEOUT)
    }

    /// Ends dockerd, containerd and all containers at once, as a loss of power does. What is on disk is there at
    /// the next start.
    pub fn power_off(&mut self, host: &Host) -> Result<()> {
        self.kill9()?;
        self.containerd.kill9()?;
        self.enclosure.end()?;
        let tini = self.programs.path("usr/bin/tini-static");
        self.enclosure = Enclosure::new(host.netns(), &self.plugins, &tini, &self.work)?;
        containerd::forget(&self.work)?;
        // What a machine keeps in /run.
        let (pid, state) = (self.pidfile(), self.work.path().join("exec"));
        fs::remove_file(&pid).with_context(|| format!("remove {}", pid.display()))?;
        fs::remove_dir_all(&state).with_context(|| format!("remove {}", state.display()))?;
        self.containerd =
            containerd::start(&self.label, &self.programs, &self.enclosure, &self.work)?;
        Ok(())
    }

    fn pidfile(&self) -> PathBuf {
        self.work.path().join("dockerd.pid")
    }

    /// Where it takes requests.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.work.path().join("docker.sock")
    }

    /// Its folder of plugin sockets: [`Host::plugins`].
    #[must_use]
    pub fn plugins(&self) -> &Path {
        &self.plugins
    }

    /// The control groups of its containers.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The folder of its data, sockets and logs.
    #[must_use]
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// Where a path that its processes see is, seen from here: mounts and process ids differ. The
    /// network namespace of a container is at `inside("/proc/<State.Pid>/ns/net")`.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        self.enclosure.path(path)
    }

    /// What dockerd wrote, over all its starts.
    pub fn log(&self) -> Result<String> {
        let log = self.work.path().join("dockerd.log");
        fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))
    }

    /// dockerd's process.
    pub fn dockerd(&mut self) -> Result<&mut Daemon> {
        self.dockerd.as_mut().context("no dockerd was started")
    }

    fn url(&self) -> Result<String> {
        let socket = self.socket();
        ensure!(
            socket.as_os_str().len() < SOCKET_PATH,
            "{} is too long for a socket: choose a shorter TMPDIR",
            socket.display()
        );
        Ok(format!("unix://{}", socket.display()))
    }
}

fn flag<'a>(name: &'a str, value: &'a Path) -> [&'a OsStr; 2] {
    [OsStr::new(name), value.as_os_str()]
}
