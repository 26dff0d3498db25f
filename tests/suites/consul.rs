//! A Consul as people guard it: a private CA that wants client certificates, ACLs that deny by
//! default, and settings from the environment that Consul's own tools read.

mod catalog;
mod guarded;
mod hosts;
mod secrets;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::agent::START_TIMEOUT;
use tests::wait::until;

use crate::support::{CONVERGE, Container, mac_of, network, reachable};
use guarded::{Environment, Guarded, UNKNOWN, documented_policy};

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
            problems.contains("not registered")
                && problems.contains("session")
                && problems.contains("not in Consul's catalog"),
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
        for variable in [
            "CONSUL_CACERT",
            "CONSUL_TLS_SERVER_NAME",
            "CONSUL_CLIENT_CERT",
        ] {
            ensure!(error.contains(variable), "what to do: {status}");
        }
        Ok(())
    })?;
    host.agent()?.stop(Duration::from_secs(10)).map(drop)
}
