//! Each host with a token of its own, as docs/store.md has it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::agent::START_TIMEOUT;
use tests::http;
use tests::wait::until;

use super::guarded::{Guarded, blocks, field};
use crate::support::{CONVERGE, Container, mac_of, network, reachable};

/// A host's id and its token.
struct Given {
    id: String,
    token: String,
}

impl Guarded {
    /// What the documentation says to do for each host, with these of its rules.
    fn give(&self, host: usize, rules: &str, commands: &str) -> Result<Given> {
        fs::write(self.work.path().join("agent.hcl"), rules).context("write the policy")?;
        let state = self.lab.hosts[host - 1].work().folder("state")?;
        let lines = commands.replace("/var/lib/overlay", &state.display().to_string());
        ensure!(lines != commands, "no id for the host in: {commands}");
        let token = field(&self.shell(&lines)?, "SecretID:")?;
        let id = fs::read_to_string(state.join("node-id")).context("read the id")?;
        let id = id.trim().to_owned();
        Ok(Given { id, token })
    }

    fn container(&self, host: usize, label: &str) -> Result<Container> {
        let host = &self.lab.hosts[host - 1];
        let netns = host.container(label)?;
        let ip = host.add_endpoint("blue", &netns, &["--name", label])?;
        let mac = mac_of(&netns)?;
        Ok(Container { netns, ip, mac })
    }

    /// Whether Consul refuses that to this token.
    fn denied(&self, given: &Given, args: &[&str]) -> Result<()> {
        let said = self.consul(args, &given.token);
        let said = said.err().with_context(|| format!("may {args:?}"))?;
        ensure!(said.to_string().contains("Permission denied"), "{said:#}");
        Ok(())
    }

    fn denied_request(&self, given: &Given, method: &str, path: &str, body: &str) -> Result<()> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("/v1/{path}{separator}token={}", given.token);
        let store = (self.station.ip, 8500).into();
        let answer = http::request(&self.station.netns, store, method, &path, body)?;
        // A transaction's refusal comes as a conflict.
        let refused = [403, 409].contains(&answer.status);
        ensure!(
            refused && answer.body.contains("Permission denied"),
            "{method} {path}: {answer:?}"
        );
        Ok(())
    }
}

#[test]
fn a_host_writes_its_own_part_only() -> Result<()> {
    let mut world = Guarded::new()?;
    let text = blocks("## ACL policy of each host")?;
    let [prepare, rules, commands] = &text[..] else {
        anyhow::bail!("not what the documentation had: {text:?}");
    };
    let uses: String = rules
        .lines()
        .filter(|line| !line.contains("makes networks"))
        .map(|line| format!("{line}\n"))
        .collect();
    world.shell(prepare)?;
    let given = [
        world.give(1, rules, commands)?,
        world.give(2, &uses, commands)?,
    ];
    for host in [1, 2] {
        let mut environment = world.environment();
        environment.push(("CONSUL_HTTP_TOKEN", given[host - 1].token.clone()));
        world.spawn(host, &environment)?;
    }
    for (host, given) in world.lab.hosts.iter_mut().zip(&given) {
        host.wait_agent_ready(START_TIMEOUT)?;
        let status = host.cli_json(&["status"])?;
        ensure!(status["node_id"] == given.id.as_str(), "{status}");
    }

    // All of every day.
    let [one, two] = [&world.lab.hosts[0], &world.lab.hosts[1]];
    one.cli_ok(&["network", "create", "blue", "--subnet", "10.42.0.0/16"])?;
    one.cli_ok(&["network", "create", "red"])?;
    until(CONVERGE, || network(two, "red").map(drop))?;
    let containers = [world.container(1, "one")?, world.container(2, "two")?];
    reachable(&containers[0], &containers[1], 3)?;
    let gone = world.container(2, "gone")?;
    two.cli_ok(&["endpoint", "rm", "gone"])?;
    ensure!(!gone.netns.ip(&["-o", "link"])?.contains("eth0"));
    one.cli_ok(&["network", "rm", "red"])?;
    let without_problems = || {
        until(CONVERGE, || {
            for host in &world.lab.hosts {
                let status = host.cli_json(&["status"])?;
                ensure!(status["problems"] == json!([]), "{status}");
            }
            Ok(())
        })
    };
    without_problems()?;
    let nodes = one.cli_json(&["node", "ls"])?;
    ensure!(
        nodes.as_array().is_some_and(|all| all.len() == 2),
        "{nodes}"
    );

    // A folder that somebody deleted comes back.
    world.manage(&["kv", "delete", "overlay/v1/networks/"])?;
    until(CONVERGE, || {
        let found = world.manage(&["kv", "get", "-detailed", "overlay/v1/networks/"]);
        found.map(drop)
    })?;
    without_problems()?;

    // Nothing of another's, and no version.
    let before = world.manage(&["kv", "export", "overlay/v1/endpoints/"])?;
    for (own, other) in [(0, 1), (1, 0)] {
        let (given, other) = (&given[own], &given[other].id);
        let published = world.manage(&["kv", "get", "-keys", "-separator=", "overlay/v1/"])?;
        let theirs = format!("overlay/v1/endpoints/{other}/0");
        let theirs = published.lines().find(|key| key.starts_with(&theirs));
        let theirs = theirs.context("no endpoint of the other host")?;
        let forged = format!("overlay/v1/endpoints/{other}/000001/aaaaaaaaaaaaaaaa");
        let record = r#"{"ip4":"10.42.9.9","mac":"02:42:0a:2a:09:09","name":"forged"}"#;
        for key in [
            &forged,
            theirs,
            &format!("overlay/v1/nodes/{other}"),
            "overlay/v1/schema",
            "overlay/v1/nodes/aaaaaaaaaaaaaaaa",
        ] {
            world.denied(given, &["kv", "put", key, record])?;
            world.denied(given, &["kv", "delete", key])?;
            let operation = json!([{"KV": {"Verb": "delete", "Key": key}}]).to_string();
            world.denied_request(given, "PUT", "txn", &operation)?;
        }
        for folder in ["", "endpoints/", "nodes/"] {
            world.denied(
                given,
                &["kv", "delete", "-recurse", &format!("overlay/v1/{folder}")],
            )?;
        }
        let elsewhere = r#"{"Node": "elsewhere"}"#;
        world.denied_request(given, "PUT", "session/create", elsewhere)?;
    }
    // What makes networks is the first host's alone.
    world.denied(&given[1], &["kv", "delete", "overlay/v1/networks/blue"])?;
    world.denied(&given[1], &["kv", "put", "overlay/v1/vnis/000007", "\"x\""])?;
    let one = &world.lab.hosts[0];
    let two = &world.lab.hosts[1];
    for (host, args) in [
        (two, &["network", "create", "green"][..]),
        (one, &["node", "add", "switch", "--vtep", "192.0.2.77"]),
    ] {
        let refused = host.cli(args)?;
        ensure!(
            refused.code == 1
                && refused.stderr.contains("ACL denies")
                && refused.stderr.contains("the token's policy"),
            "{args:?}: {refused:?}"
        );
    }
    let after = world.manage(&["kv", "export", "overlay/v1/endpoints/"])?;
    ensure!(before == after, "{before}\n{after}");
    without_problems()?;
    reachable(&containers[0], &containers[1], 3)
}
