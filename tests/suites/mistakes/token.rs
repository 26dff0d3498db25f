//! A real Consul that denies everything to strangers.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::consul::Consul;
use tests::http;
use tests::lab::{Host, Lab, Station, UNDERLAY};
use tests::process::Daemon;
use tests::traffic::ping::Pinging;
use tests::wait::until;
use tests::workdir::WorkDir;

use super::{ended, inside, is_refusal, logged, refused, unchanged};
use crate::support::traces::Traces;
use crate::support::{CONVERGE, Container, mac_of, reachable};

const MASTER: &str = "11111111-1111-1111-1111-111111111111";
const STRANGER: &str = "22222222-2222-2222-2222-222222222222";

/// What an agent needs, as in docs/store.md.
const POLICY: &str = r#"
    key_prefix "overlay/v1/" { policy = "write" }
    session_prefix "" { policy = "write" }
    service "overlay-agent" { policy = "write" }
"#;

#[test]
fn the_token_is_refused() -> Result<()> {
    let mut lab = Lab::switched(1)?;
    let work = WorkDir::new("store")?;
    let station = lab.station("store")?;
    let acl = json!({"acl": {
        "enabled": true, "default_policy": "deny", "tokens": { "master": MASTER },
    }});
    let consul = Consul::start_with(&station.netns, IpAddr::V4(station.ip), work.path(), &acl)?;
    let store = Acl {
        station,
        address: consul.address(),
    };
    let host = &lab.hosts[0];
    let before = Traces::settled(host)?;
    until(CONVERGE, || store.ask("PUT", "/v1/kv/other", &json!("x")))?;

    // At the start: an error of the settings, before anything is made.
    let run = |variables: &[(&str, &str)]| run(host, &consul.url(), variables);
    for (variables, says) in [
        (
            &[][..],
            &["ACL denies", "Permission denied", "CONSUL_HTTP_TOKEN"][..],
        ),
        (
            &[("CONSUL_HTTP_TOKEN", STRANGER)],
            &[
                "the store refused the token",
                "ACL not found",
                "CONSUL_HTTP_TOKEN",
            ],
        ),
        (
            &[("CONSUL_HTTP_TOKEN_FILE", "/nonexistent")],
            &["cannot read the token from /nonexistent"],
        ),
    ] {
        let said = ended(run(variables)?)?;
        is_refusal(&said, 1, says)?;
        ensure!(!said.stderr.contains(STRANGER), "shows the token: {said:?}");
        unchanged(host, &before)?;
    }
    let keys = store.ask("GET", "/v1/kv/?keys", &Value::Null)?;
    let keys: Vec<String> = serde_json::from_str(&keys)?;
    ensure!(
        keys.iter().all(|key| !key.starts_with("overlay/")),
        "{keys:?}"
    );

    // A token that lacks a right that is needed later: the agent runs, and says what it lacks.
    let (_, poor) = store.token("poor", r#"key_prefix "overlay/v1/" { policy = "write" }"#)?;
    let log = work.path().join("poor.log");
    let mut agent = Daemon::spawn("the agent", run(&[("CONSUL_HTTP_TOKEN", &poor)])?, &log)?;
    let lacks = [
        "not registered",
        "session",
        "ACL denies",
        "CONSUL_HTTP_TOKEN",
    ];
    logged(&mut agent, &[&["WARN"][..], &lacks].concat())?;
    let status = host.cli_json(&["status"])?;
    let problem = status["problems"][0].as_str().context("no problem")?;
    ensure!(lacks.iter().all(|part| problem.contains(part)), "{problem}");
    agent.stop(Duration::from_secs(10))?;
    let told = agent.log()?.matches("not registered").count();
    ensure!(told == 1, "told {told} times: {}", agent.log()?);

    // A good one, until somebody revokes it.
    let (accessor, good) = store.token("good", POLICY)?;
    let log = work.path().join("good.log");
    let mut agent = Daemon::spawn("the agent", run(&[("CONSUL_HTTP_TOKEN", &good)])?, &log)?;
    logged(&mut agent, &["in line with the store"])?;
    until(CONVERGE, || {
        let status = host.cli_json(&["status"])?;
        ensure!(status["problems"] == json!([]), "{status}");
        host.cli_ok(&["network", "create", "blue", "--subnet", "10.42.0.0/16"])
    })?;
    let (one, two) = (container(host, "one")?, container(host, "two")?);
    reachable(&one, &two, 1)?;
    let free = host.container("free")?;
    let left = (Traces::settled(host)?, inside(&free)?);
    let pinging = Pinging::start(
        &one.netns,
        two.ip.into(),
        Duration::from_millis(10),
        work.path(),
    )?;
    store.ask("DELETE", &format!("/v1/acl/token/{accessor}"), &Value::Null)?;
    let says = ["refused the token", "CONSUL_HTTP_TOKEN"];
    for args in [
        "network create red",
        "endpoint add --network blue --netns @free",
    ] {
        refused(host, &[("free", &free)], (args, 1, &says))?;
    }
    until(CONVERGE, || {
        let status = host.cli_ok(&["status"])?;
        ensure!(says.iter().all(|part| status.contains(part)), "{status}");
        ensure!(status.contains("down since"), "{status}");
        Ok(())
    })?;
    unchanged(host, &left.0)?;
    ensure!(inside(&free)? == left.1, "left in the container");
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    agent.stop(Duration::from_secs(10))?;
    Ok(())
}

fn container(host: &Host, label: &str) -> Result<Container> {
    let netns = host.container(label)?;
    let ip = host.add_endpoint("blue", &netns, &["--name", label])?;
    let mac = mac_of(&netns)?;
    Ok(Container { netns, ip, mac })
}

fn run(host: &Host, url: &str, variables: &[(&str, &str)]) -> Result<Command> {
    let mut command = host.command(&["run", "--underlay", UNDERLAY, "--store", url])?;
    command.envs(variables.iter().copied());
    Ok(command)
}

/// The server, asked as its owner.
struct Acl {
    station: Station,
    address: SocketAddr,
}

impl Acl {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<String> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}token={MASTER}");
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let answer = http::request(&self.station.netns, self.address, method, &path, &body)?;
        ensure!(answer.status == 200, "{method} {path}: {answer:?}");
        Ok(answer.body)
    }

    /// Accessor and secret of a new token with these rights.
    fn token(&self, name: &str, rules: &str) -> Result<(String, String)> {
        let policy = json!({ "Name": name, "Rules": rules });
        self.ask("PUT", "/v1/acl/policy", &policy)?;
        let token = json!({ "Policies": [{ "Name": name }] });
        let made: Value = serde_json::from_str(&self.ask("PUT", "/v1/acl/token", &token)?)?;
        let field = |name: &str| {
            let value = made[name].as_str().map(str::to_owned);
            value.with_context(|| format!("no {name} in {made}"))
        };
        Ok((field("AccessorID")?, field("SecretID")?))
    }
}
