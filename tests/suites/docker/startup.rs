//! The socket that Docker finds the agent by, and what the agent says when it does not find Docker.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};
use tests::http;
use tests::process::Daemon;
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World};

const SOCKET: &str = "overlay-ebpf.sock";

struct Alone {
    world: World,
    options: Vec<String>,
}

impl Alone {
    /// Hosts without a Docker, and how an agent is started to serve one.
    fn new() -> Result<Self> {
        let world = World::without_agents(StoreKind::Embedded)?;
        let plugins = world.host(1).plugins()?;
        let socket = world.host(1).work().path().join("docker.sock");
        let text = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path");
        let options = [
            "--docker".to_owned(),
            "--docker-plugins".to_owned(),
            text(&plugins)?,
            "--docker-socket".to_owned(),
            text(&socket)?,
        ];
        Ok(Self {
            world,
            options: options.into(),
        })
    }

    fn start(&mut self, n: usize) -> Result<()> {
        let url = self.world.store.url();
        let options: Vec<_> = self.options.iter().map(String::as_str).collect();
        self.world.host_mut(n).start_agent_with(&url, &options)
    }

    fn answers(&self) -> Result<()> {
        let socket = self.world.host(1).plugins()?.join(SOCKET);
        let said = http::request_unix(&socket, "POST", "/Plugin.Activate", "")?;
        ensure!(said.body.contains("NetworkDriver"), "{said:?}");
        ensure!(said.body.contains("IpamDriver"), "{said:?}");
        Ok(())
    }
}

#[test]
fn takes_the_place_of_a_dead_agent() -> Result<()> {
    let mut alone = Alone::new()?;
    let left = alone.world.host(1).plugins()?.join(SOCKET);
    drop(UnixListener::bind(&left).context("leave a socket")?);
    alone.start(1)?;
    alone.answers()?;
    // Of Docker's API there is no trace.
    until(CONVERGE, || {
        let status = alone.world.host(1).cli_json(&["status"])?;
        let problems = status["problems"].to_string();
        ensure!(problems.contains("Docker is not served"), "{status}");
        ensure!(problems.contains("docker.sock"), "{status}");
        Ok(())
    })?;
    // What nobody knows is no success.
    let said = http::request_unix(&left, "POST", "/NetworkDriver.Nonsense", "{}")?;
    ensure!(said.status == 404, "{said:?}");
    let said = http::request_unix(&left, "POST", "/NetworkDriver.Join", "nonsense")?;
    ensure!(said.body.contains("not understood"), "{said:?}");
    alone.world.host_mut(1).agent()?.stop(CONVERGE)?;
    ensure!(!left.exists(), "the socket is left");
    Ok(())
}

#[test]
fn leaves_a_living_agent_alone() -> Result<()> {
    let mut alone = Alone::new()?;
    alone.start(1)?;
    let refused = alone.start(2).unwrap_err();
    let refused = format!("{refused:#}");
    ensure!(
        refused.contains("another agent serves Docker there"),
        "{refused}"
    );
    alone.answers()
}

/// As systemd does: the socket is there before the agent, and stays when it ends.
#[test]
fn is_handed_its_socket() -> Result<()> {
    let alone = Alone::new()?;
    let host = alone.world.host(1);
    let path = host.plugins()?.join(SOCKET);
    let listener = UnixListener::bind(&path).context("make the socket")?;
    let script = host.work().path().join("activate");
    let text = "#!/bin/sh\nLISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"\n";
    fs::write(&script, text).context("write the script")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let url = alone.world.store.url();
    let agent = tests::agent::binary()?;
    let args = [
        "run",
        "--underlay",
        tests::lab::UNDERLAY,
        "--node-name",
        "host1",
    ];
    let model = host.command(&[])?;
    let mut command = host.netns().command(&script)?;
    command
        .arg(agent)
        .args(args)
        .args(["--store", &url])
        .args(&alone.options);
    for (name, value) in model.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let fd = listener.as_raw_fd();
    // SAFETY: between fork and exec only the system calls fcntl and dup2 run; the descriptor stays open.
    unsafe {
        command.pre_exec(move || {
            // Where it is in its place already, only the mark to close it goes.
            let placed = if fd == 3 {
                libc::fcntl(fd, libc::F_SETFD, 0) == 0
            } else {
                libc::dup2(fd, 3) == 3
            };
            if placed {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let log = host.work().path().join("activated.log");
    let mut agent = Daemon::spawn("the activated agent", command, &log)?;
    agent.wait_ready(tests::agent::START_TIMEOUT, || alone.answers())?;
    agent.stop(CONVERGE)?;
    ensure!(path.exists(), "the service manager's socket was removed");
    Ok(())
}
