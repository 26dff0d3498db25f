//! The guarded Consul, and two hosts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::consul::Consul;
use tests::lab::{Lab, Station};
use tests::wait::until;
use tests::workdir::WorkDir;

use crate::support::CONVERGE;

/// The first management token.
const MANAGEMENT: &str = "5d9d35a5-1111-4222-8333-9e0f6c5f4a01";
/// A token that nobody made.
pub(super) const UNKNOWN: &str = "5d9d35a5-ffff-4fff-8fff-9e0f6c5f4a01";
/// What the server's certificate is for; not its address.
const SERVER_NAME: &str = "server.dc1.consul";

pub(super) type Environment = Vec<(&'static str, String)>;

/// Two hosts and a guarded Consul.
pub(super) struct Guarded {
    _consul: Consul,
    pub(super) lab: Lab,
    pub(super) station: Station,
    pub(super) work: WorkDir,
}

impl Guarded {
    pub(super) fn new() -> Result<Self> {
        let mut lab = Lab::switched(2)?;
        let work = WorkDir::new("guarded")?;
        let station = lab.station("store")?;
        let folder = work.path();
        tls(folder, &["ca", "create"])?;
        tls(folder, &["cert", "create", "-server"])?;
        tls(folder, &["cert", "create", "-client"])?;
        let settings = json!({
            "ports": { "https": 8501 },
            "verify_incoming": true,
            "ca_file": ca(folder),
            "cert_file": folder.join("dc1-server-consul-0.pem"),
            "key_file": folder.join("dc1-server-consul-0-key.pem"),
            "acl": {
                "enabled": true,
                "default_policy": "deny",
                "tokens": { "master": MANAGEMENT, "agent": MANAGEMENT },
            },
        });
        let ip = IpAddr::V4(station.ip);
        let consul = Consul::start_with(&station.netns, ip, folder, &settings)?;
        let world = Self {
            _consul: consul,
            lab,
            station,
            work,
        };
        // ACLs are set up a moment after the election.
        until(CONVERGE, || {
            world.manage(&["acl", "token", "list"]).map(drop)
        })?;
        Ok(world)
    }

    /// Runs `consul <args>` with all rights.
    pub(super) fn manage(&self, args: &[&str]) -> Result<String> {
        self.consul(args, MANAGEMENT)
    }

    /// Runs `consul <args>` with this token.
    pub(super) fn consul(&self, args: &[&str], token: &str) -> Result<String> {
        let mut command = self.station.netns.command(tests::packages::consul()?)?;
        self.connect(&mut command, token);
        tests::command::output(command.args(args))
    }

    /// Runs lines of the documentation in a shell, with all rights.
    pub(super) fn shell(&self, lines: &str) -> Result<String> {
        let consul = tests::packages::consul()?;
        let folder = consul.parent().context("the folder of Consul")?;
        let path = std::env::var("PATH").context("no PATH")?;
        let mut command = self.station.netns.command("sh")?;
        self.connect(&mut command, MANAGEMENT);
        command
            .args(["-euc", lines])
            .env("PATH", format!("{}:{path}", folder.display()))
            .current_dir(self.work.path());
        tests::command::output(&mut command)
    }

    fn connect(&self, command: &mut Command, token: &str) {
        let address = format!("http://{}:8500", self.station.ip);
        command
            .env("CONSUL_HTTP_ADDR", address)
            .env("CONSUL_HTTP_TOKEN", token);
    }

    /// A new token with these rights; its secret.
    pub(super) fn token(&self, name: &str, rules: &str) -> Result<String> {
        self.manage(&["acl", "policy", "create", "-name", name, "-rules", rules])?;
        let made = self.manage(&["acl", "token", "create", "-policy-name", name])?;
        field(&made, "SecretID:")
    }

    /// All that a connection needs, but a token.
    pub(super) fn environment(&self) -> Environment {
        let folder = self.work.path();
        let file = |name: &str| folder.join(name).display().to_string();
        vec![
            (
                "CONSUL_HTTP_ADDR",
                format!("https://{}:8501", self.station.ip),
            ),
            ("CONSUL_CACERT", ca(folder).display().to_string()),
            ("CONSUL_CLIENT_CERT", file("dc1-client-consul-0.pem")),
            ("CONSUL_CLIENT_KEY", file("dc1-client-consul-0-key.pem")),
            ("CONSUL_TLS_SERVER_NAME", SERVER_NAME.to_owned()),
        ]
    }

    pub(super) fn spawn(&mut self, host: usize, environment: &Environment) -> Result<()> {
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.lab.hosts[host - 1].spawn_agent_env(&environment, &[])
    }

    /// Starts an agent that must give up; its log.
    pub(super) fn refused(&mut self, environment: &Environment) -> Result<String> {
        self.spawn(1, environment)?;
        let agent = self.lab.hosts[0].agent()?;
        let status = agent.wait_exit(Duration::from_secs(20))?;
        ensure!(status.code() == Some(1), "{status}: {}", agent.log()?);
        let log = agent.log()?;
        let errors = log.lines().filter(|line| line.starts_with("error: "));
        ensure!(errors.count() >= 1, "no line says why: {log}");
        Ok(log)
    }
}

/// Of what `consul acl` says of something.
pub(super) fn field(said: &str, name: &str) -> Result<String> {
    let found = said.lines().find_map(|line| line.strip_prefix(name));
    let found = found.with_context(|| format!("no {name} in: {said}"))?;
    Ok(found.trim().to_owned())
}

fn tls(folder: &Path, args: &[&str]) -> Result<()> {
    let mut command = Command::new(tests::packages::consul()?);
    command.arg("tls").args(args).current_dir(folder);
    tests::command::output(&mut command).map(drop)
}

fn ca(folder: &Path) -> PathBuf {
    folder.join("consul-agent-ca.pem")
}

/// The rules that the documentation gives for all hosts alike.
pub(super) fn documented_policy() -> Result<String> {
    Ok(blocks("## ACL policy of an agent")?.remove(0))
}

/// The indented blocks below a heading of docs/store.md.
pub(super) fn blocks(heading: &str) -> Result<Vec<String>> {
    let text = include_str!("../../../docs/store.md");
    let (_, section) = text
        .split_once(&format!("{heading}\n"))
        .with_context(|| format!("docs/store.md has no section `{heading}`"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut blocks = vec![String::new()];
    for line in section.lines() {
        match (line.strip_prefix("    "), blocks.last_mut()) {
            (Some(line), Some(block)) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, Some(block)) if !block.is_empty() => blocks.push(String::new()),
            (Some(_), None) | (None, _) => {}
        }
    }
    blocks.retain(|block| !block.is_empty());
    ensure!(!blocks.is_empty(), "`{heading}` shows no commands or rules");
    Ok(blocks)
}
