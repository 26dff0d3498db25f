//! The agent under test: started on a host, driven through its command line and its metrics.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    command::{capture, line},
    http,
    lab::{Host, UNDERLAY},
    metrics::Metrics,
    netns::Netns,
    paths,
    process::Daemon,
};

/// Tells which agent to run; set by xtask.
pub const BINARY_ENV: &str = "OVERLAY_AGENT_BIN";

/// Where every agent serves its metrics, in its host's namespace.
pub const METRICS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9469));

/// An agent has loaded, attached and read its store well within this time.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// From now on this process starts this agent. The first choice stays.
pub fn use_binary(path: PathBuf) {
    CHOSEN.get_or_init(|| path);
}

/// The agent's path: what [`use_binary`] said, else [`BINARY_ENV`], else next to the running
/// program (as cargo lays it out).
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = CHOSEN.get() {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os(BINARY_ENV) {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().context("find the path of this program")?;
    // target/<profile>/xtask, or target/<profile>/deps/suites-<hash>.
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("overlay-agent"));
    let target = paths::target();
    let built = ["release", "debug"].map(|profile| target.join(profile).join("overlay-agent"));
    beside
        .chain(built)
        .find(|path| path.is_file())
        .with_context(|| {
            format!("no overlay-agent is built: run `cargo xtask build`, or set {BINARY_ENV}")
        })
}

/// The agent's program in a namespace, without the settings of whoever runs the tests.
pub fn command(netns: &Netns) -> Result<Command> {
    let mut command = netns.command(binary()?)?;
    for (name, _) in std::env::vars_os() {
        let inherited = name
            .to_str()
            .is_some_and(|name| name.starts_with("OVERLAY_") || name.starts_with("CONSUL_"));
        if inherited {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// What a command of the agent, or of Docker, said.
#[derive(Debug, Clone)]
pub struct CliOutput {
    /// Of the agent: 0 done, 1 failed, 2 wrong usage.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Host {
    /// Starts the agent and waits until it is ready. `store` is the value of `--store`.
    pub fn start_agent(&mut self, store: &str) -> Result<()> {
        self.start_agent_with(store, &[])
    }

    /// The same with more arguments of `run`.
    pub fn start_agent_with(&mut self, store: &str, more: &[&str]) -> Result<()> {
        self.spawn_agent(store, more)?;
        self.wait_agent_ready(START_TIMEOUT)
    }

    /// Starts the agent and does not wait.
    pub fn spawn_agent(&mut self, store: &str, more: &[&str]) -> Result<()> {
        self.spawn_agent_env(&[("OVERLAY_STORE", store)], more)
    }

    /// The same with nothing said of the store but what `environment` says.
    pub fn spawn_agent_env(&mut self, environment: &[(&str, &str)], more: &[&str]) -> Result<()> {
        let mut command = command(self.netns())?;
        command
            .envs(environment.iter().copied())
            .args(["run", "--underlay", UNDERLAY])
            .args(["--node-name", self.label()])
            .args(["--metrics-addr", &METRICS.to_string()])
            .args(more);
        for vtep in &self.vteps {
            command.args(["--advertise", &vtep.to_string()]);
        }
        self.folders(&mut command)?;
        let log = self.work().path().join("agent.log");
        let name = format!("the agent of {}", self.label());
        self.agent = Some(Daemon::spawn(&name, command, &log)?);
        Ok(())
    }

    /// Waits for `/readyz`.
    pub fn wait_agent_ready(&mut self, timeout: Duration) -> Result<()> {
        let Self { agent, station, .. } = self;
        let agent = agent.as_mut().context("no agent was started")?;
        agent.wait_ready(timeout, || {
            http::get(&station.netns, METRICS, "/readyz").map(drop)
        })
    }

    /// The agent's process.
    pub fn agent(&mut self) -> Result<&mut Daemon> {
        let Self { agent, station, .. } = self;
        agent
            .as_mut()
            .with_context(|| format!("no agent was started on {}", station.label))
    }

    /// `overlay-agent <args>`, not started yet.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = command(self.netns())?;
        command.args(args);
        self.folders(&mut command)?;
        Ok(command)
    }

    /// Runs `overlay-agent <args>` as an administrator of this host would.
    pub fn cli(&self, args: &[&str]) -> Result<CliOutput> {
        let mut command = self.command(args)?;
        let output = capture(&mut command)?;
        Ok(CliOutput {
            code: output
                .status
                .code()
                .with_context(|| format!("`{}`: {}", line(&command), output.status))?,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The same for a command that must succeed; its standard output.
    pub fn cli_ok(&self, args: &[&str]) -> Result<String> {
        let output = self.cli(args)?;
        if output.code != 0 {
            bail!(
                "`overlay-agent {}` on {}: exit code {}: {} {}",
                args.join(" "),
                self.label(),
                output.code,
                output.stderr.trim(),
                output.stdout.trim()
            );
        }
        Ok(output.stdout)
    }

    /// The same with `-o json`, parsed.
    pub fn cli_json(&self, args: &[&str]) -> Result<Value> {
        let args = [args, &["-o", "json"]].concat();
        let text = self.cli_ok(&args)?;
        serde_json::from_str(&text)
            .with_context(|| format!("`overlay-agent {}` said: {text}", args.join(" ")))
    }

    /// Gives `container` an interface `eth0` on the network; its address.
    pub fn add_endpoint(
        &self,
        network: &str,
        container: &Netns,
        more: &[&str],
    ) -> Result<Ipv4Addr> {
        let path = container.path();
        let path = path.to_str().context("path of a namespace")?;
        let args = [
            &["endpoint", "add", "--network", network, "--netns", path],
            more,
        ]
        .concat();
        self.cli_ok(&args)?;
        container.ipv4("eth0")
    }

    /// Scrapes the agent.
    pub fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::new(http::get(self.netns(), METRICS, "/metrics")?))
    }

    /// The environment says it for every subcommand, also for those that do not know the flag.
    fn folders(&self, command: &mut Command) -> Result<()> {
        command
            .env("OVERLAY_RUN_DIR", self.work().folder("run")?)
            .env("OVERLAY_STATE_DIR", self.work().folder("state")?)
            .env("OVERLAY_BPFFS_DIR", self.pins())
            // Not this machine's /etc/overlay/config.toml.
            .env("OVERLAY_CONFIG", "/dev/null");
        Ok(())
    }
}
