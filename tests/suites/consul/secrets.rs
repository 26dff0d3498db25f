//! Tokens: replaced while the agent runs, and shown nowhere.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::agent::START_TIMEOUT;
use tests::traffic::ping::Pinging;
use tests::wait::until;

use super::guarded::{Guarded, UNKNOWN, documented_policy, field};
use crate::support::{CONVERGE, Container, mac_of, reachable};

#[test]
fn a_token_is_replaced_and_never_shown() -> Result<()> {
    let mut world = Guarded::new()?;
    let first = world.token("overlay", &documented_policy()?)?;
    let file = world.work.path().join("token");
    fs::write(&file, &first).context("write the token")?;
    let mut environment = world.environment();
    environment.push(("CONSUL_HTTP_TOKEN_FILE", file.display().to_string()));
    environment.push(("OVERLAY_LOG", "debug".to_owned()));
    // Consul's own variable, which the file goes before.
    environment.push(("CONSUL_HTTP_TOKEN", UNKNOWN.to_owned()));
    world.spawn(1, &environment)?;
    let host = &mut world.lab.hosts[0];
    host.wait_agent_ready(START_TIMEOUT)?;
    host.cli_ok(&["network", "create", "blue", "--subnet", "10.42.0.0/16"])?;
    let add = |world: &Guarded, label: &str| {
        let host = &world.lab.hosts[0];
        let netns = host.container(label)?;
        let ip = host.add_endpoint("blue", &netns, &["--name", label])?;
        let mac = mac_of(&netns)?;
        Ok::<_, anyhow::Error>(Container { netns, ip, mac })
    };
    let (one, two) = (add(&world, "one")?, add(&world, "two")?);
    reachable(&one, &two, 1)?;
    let interval = Duration::from_millis(10);
    let pinging = Pinging::start(&one.netns, two.ip.into(), interval, world.work.path())?;

    // The next one is written in place, as an editor does; then the old one is deleted.
    let made = world.manage(&["acl", "token", "create", "-policy-name", "overlay"])?;
    let second = field(&made, "SecretID:")?;
    fs::write(&file, format!("{second}\n")).context("write the next token")?;
    let own = world.consul(&["acl", "token", "read", "-self"], &first)?;
    world.manage(&[
        "acl",
        "token",
        "delete",
        "-id",
        &field(&own, "AccessorID:")?,
    ])?;
    ensure!(
        world
            .consul(&["kv", "get", "overlay/v1/schema"], &first)
            .is_err()
    );
    let _three = add(&world, "three")?;
    // Every blocking query and the session are asked for anew.
    let wake = ["networks/", "nodes/", "endpoints/"].map(|folder| format!("overlay/v1/{folder}"));
    for key in &wake {
        world.manage(&["kv", "put", "-flags=7", key])?;
    }
    world.lab.hosts[0].cli_ok(&["network", "create", "red"])?;
    let _four = add(&world, "four")?;
    let status = |world: &Guarded| world.lab.hosts[0].cli_json(&["status"]);
    until(CONVERGE, || {
        let status = status(&world)?;
        ensure!(
            status["problems"] == json!([]) && status["store"]["up"] == true,
            "{status}"
        );
        Ok(())
    })?;

    // One that Consul does not know stops nothing, and is told without being shown.
    fs::write(&file, UNKNOWN).context("write a wrong token")?;
    let refused = world.lab.hosts[0].cli(&["network", "create", "green"])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("refused the token"),
        "{refused:?}"
    );
    let wrong = status(&world)?;
    let human = world.lab.hosts[0].cli_ok(&["status"])?;
    fs::write(&file, &second).context("write the right token again")?;
    until(CONVERGE, || {
        world.lab.hosts[0].cli_ok(&["network", "create", "green"])
    })?;
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");

    let host = &mut world.lab.hosts[0];
    let pid = host.agent()?.pid();
    let line = fs::read(format!("/proc/{pid}/cmdline")).context("read the command line")?;
    host.agent()?.stop(Duration::from_secs(10))?;
    let log = host.agent()?.log()?;
    ensure!(
        log.contains("DEBUG") && log.contains("another token is in"),
        "{log}"
    );
    let line = String::from_utf8_lossy(&line);
    for secret in [&first, &second, UNKNOWN] {
        for (what, said) in [
            ("log", &log),
            ("refusal", &refused.stderr),
            ("status", &wrong.to_string()),
            ("status", &human),
            ("command line", &line.to_string()),
        ] {
            ensure!(!said.contains(secret), "{what} shows a token: {said}");
        }
    }
    Ok(())
}
