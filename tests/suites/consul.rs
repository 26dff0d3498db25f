//! A Consul as people guard it: a private CA that wants client certificates, ACLs that deny by
//! default, and settings from the environment that Consul's own tools read.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::agent::START_TIMEOUT;
use tests::consul::Consul;
use tests::lab::{Lab, Station};
use tests::wait::until;
use tests::workdir::WorkDir;

use crate::support::{CONVERGE, Container, mac_of, network, reachable};

/// The first management token.
const MANAGEMENT: &str = "5d9d35a5-1111-4222-8333-9e0f6c5f4a01";
/// A token that nobody made.
const UNKNOWN: &str = "5d9d35a5-ffff-4fff-8fff-9e0f6c5f4a01";
/// What the server's certificate is for; not its address.
const SERVER_NAME: &str = "server.dc1.consul";

type Environment = Vec<(&'static str, String)>;

/// Two hosts and a guarded Consul.
struct Guarded {
    _consul: Consul,
    lab: Lab,
    station: Station,
    work: WorkDir,
}

impl Guarded {
    fn new() -> Result<Self> {
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
        Ok(Self {
            _consul: consul,
            lab,
            station,
            work,
        })
    }

    /// Runs `consul <args>` with all rights.
    fn manage(&self, args: &[&str]) -> Result<String> {
        let mut command = self.station.netns.command(tests::packages::consul()?)?;
        command
            .args(args)
            .env(
                "CONSUL_HTTP_ADDR",
                format!("http://{}:8500", self.station.ip),
            )
            .env("CONSUL_HTTP_TOKEN", MANAGEMENT);
        tests::command::output(&mut command)
    }

    /// A new token with these rights; its secret.
    fn token(&self, name: &str, rules: &str) -> Result<String> {
        // ACLs are set up a moment after the election.
        until(CONVERGE, || {
            self.manage(&["acl", "token", "list"]).map(drop)
        })?;
        self.manage(&["acl", "policy", "create", "-name", name, "-rules", rules])?;
        let made = self.manage(&["acl", "token", "create", "-policy-name", name])?;
        let secret = made
            .lines()
            .find_map(|line| line.strip_prefix("SecretID:"))
            .with_context(|| format!("no secret in: {made}"))?;
        Ok(secret.trim().to_owned())
    }

    /// All that a connection needs, but a token.
    fn environment(&self) -> Environment {
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

    fn spawn(&mut self, host: usize, environment: &Environment) -> Result<()> {
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.lab.hosts[host - 1].spawn_agent_env(&environment, &[])
    }

    /// Starts an agent that must give up; its log.
    fn refused(&mut self, environment: &Environment) -> Result<String> {
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

fn tls(folder: &Path, args: &[&str]) -> Result<()> {
    let mut command = Command::new(tests::packages::consul()?);
    command.arg("tls").args(args).current_dir(folder);
    tests::command::output(&mut command).map(drop)
}

fn ca(folder: &Path) -> PathBuf {
    folder.join("consul-agent-ca.pem")
}

/// The rules that the documentation gives.
fn documented_policy() -> Result<String> {
    let text = include_str!("../../docs/store.md");
    let (_, section) = text
        .split_once("## ACL policy of an agent")
        .context("docs/store.md has no section on the ACL policy")?;
    let rules: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    ensure!(!rules.is_empty(), "the section has no rules");
    Ok(rules.join("\n"))
}

#[test]
fn tls_and_token_from_the_environment() -> Result<()> {
    let mut world = Guarded::new()?;
    let token = world.token("overlay", &documented_policy()?)?;
    let file = world.work.path().join("token");
    fs::write(&file, format!("{token}\n")).context("write the token file")?;

    let mut first = world.environment();
    first.push(("CONSUL_HTTP_TOKEN", token.clone()));
    let mut second = world.environment();
    second[0].1 = format!("{}:8501", world.station.ip);
    second.push(("CONSUL_HTTP_SSL", "true".to_owned()));
    second.push(("CONSUL_HTTP_TOKEN_FILE", file.display().to_string()));
    world.spawn(1, &first)?;
    world.spawn(2, &second)?;
    for host in &mut world.lab.hosts {
        host.wait_agent_ready(START_TIMEOUT)?;
    }

    let hosts = &world.lab.hosts;
    hosts[0].cli_ok(&["network", "create", "blue", "--subnet", "10.42.0.0/16"])?;
    until(CONVERGE, || network(&hosts[1], "blue").map(drop))?;
    let mut containers = Vec::new();
    for host in hosts {
        let netns = host.container("c")?;
        let ip = host.add_endpoint("blue", &netns, &[])?;
        let mac = mac_of(&netns)?;
        containers.push(Container { netns, ip, mac });
    }
    reachable(&containers[0], &containers[1], 5)?;

    for host in &mut world.lab.hosts {
        let status = host.cli_json(&["status"])?;
        ensure!(status["problems"] == json!([]), "{status}");
        let said = format!("{status}{}", host.agent()?.log()?);
        ensure!(!said.contains(&token), "the token is shown: {said}");
    }

    // The token's rights shrink to all but the endpoints, which look deleted then.
    let policy = |rules: &str| {
        world.manage(&[
            "acl", "policy", "update", "-name", "overlay", "-rules", rules,
        ])
    };
    policy(
        r#"key_prefix "overlay/v1/" { policy = "write" }
           key_prefix "overlay/v1/endpoints/" { policy = "deny" }
           session_prefix "" { policy = "write" }"#,
    )?;
    let problems =
        || Ok::<_, anyhow::Error>(world.lab.hosts[0].cli_json(&["status"])?["problems"].clone());
    let own = world.lab.hosts[0].cli_json(&["status"])?["node_id"].clone();
    let own = own.as_str().context("no node id")?;
    let folder = format!("overlay/v1/endpoints/{own}/");
    let mut flags = 0;
    until(CONVERGE, || {
        // A blocked query keeps the rights that it began with until a write wakes it.
        flags += 1;
        let flags = format!("-flags={flags}");
        world.manage(&["kv", "put", &flags, &folder])?;
        let problems = problems()?;
        ensure!(
            problems.to_string().contains("the last state stays"),
            "{problems}"
        );
        Ok(())
    })?;
    reachable(&containers[0], &containers[1], 5)?;
    policy(&documented_policy()?)?;
    until(Duration::from_secs(60), || {
        let problems = problems()?;
        ensure!(problems == json!([]), "{problems}");
        Ok(())
    })?;
    reachable(&containers[0], &containers[1], 5)
}

#[test]
fn refusals_say_why() -> Result<()> {
    let mut world = Guarded::new()?;
    let token = world.token("overlay", &documented_policy()?)?;
    let with = |world: &Guarded, token: &str| {
        let mut environment = world.environment();
        environment.push(("CONSUL_HTTP_TOKEN", token.to_owned()));
        environment
    };

    let log = world.refused(&with(&world, UNKNOWN))?;
    ensure!(
        log.contains("refused the token") && log.contains("CONSUL_HTTP_TOKEN"),
        "{log}"
    );
    ensure!(!log.contains(UNKNOWN), "the token is shown: {log}");

    let log = world.refused(&world.environment())?;
    ensure!(log.contains("the store's ACL denies it"), "{log}");

    let mut missing = world.environment();
    missing.push(("CONSUL_HTTP_TOKEN_FILE", "/nonexistent/token".to_owned()));
    let log = world.refused(&missing)?;
    ensure!(log.contains("/nonexistent/token"), "{log}");

    // A certificate may be mended while the agent waits; but it says what is wrong.
    for (variable, why) in [
        ("CONSUL_TLS_SERVER_NAME", "not valid for name"),
        ("CONSUL_CACERT", "UnknownIssuer"),
    ] {
        let mut environment = with(&world, &token);
        environment.retain(|(name, _)| *name != variable);
        waits_and_says(&mut world, &environment, why)?;
    }
    let mut environment = with(&world, &token);
    environment.retain(|(name, _)| !name.starts_with("CONSUL_CLIENT_"));
    waits_and_says(&mut world, &environment, "BadCertificate")?;

    // Keys and no sessions: the agent follows, and says that the others do not learn of it.
    let keys = world.token("keys", r#"key_prefix "overlay/" { policy = "write" }"#)?;
    let environment = with(&world, &keys);
    world.spawn(1, &environment)?;
    let host = &mut world.lab.hosts[0];
    host.wait_agent_ready(START_TIMEOUT)?;
    until(CONVERGE, || {
        let status = host.cli_json(&["status"])?;
        let problems = status["problems"].to_string();
        ensure!(
            problems.contains("not registered") && problems.contains("session"),
            "{status}"
        );
        Ok(())
    })
}

fn waits_and_says(world: &mut Guarded, environment: &Environment, why: &str) -> Result<()> {
    world.spawn(1, environment)?;
    let host = &mut world.lab.hosts[0];
    until(CONVERGE, || {
        let status = host.cli_json(&["status"])?;
        let error = status["store"]["error"].as_str().unwrap_or_default();
        ensure!(error.contains(why), "wanted `{why}`: {status}");
        Ok(())
    })?;
    host.agent()?.stop(Duration::from_secs(10)).map(drop)
}
