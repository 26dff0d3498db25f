//! docs/tutorial.md, line by line.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use tests::command::output;
use tests::consul::Consul;
use tests::docker::{IMAGE, Options};
use tests::wait::until;

use super::names::SERVICE;
use super::world::{Dockers, address};
use crate::support::{CONVERGE, Store, StoreKind, World};

const TEXT: &str = include_str!("../../../docs/tutorial.md");

/// Its commands: on which host, and their words.
fn lines() -> impl Iterator<Item = (usize, Vec<&'static str>)> {
    TEXT.lines().filter_map(|line| {
        let line = line.trim_start().strip_prefix("host")?;
        let (host, command) = line.split_once("$ ")?;
        Some((host.parse().ok()?, command.split_whitespace().collect()))
    })
}

/// Consul on the first host, as in the text.
fn hosts() -> Result<Dockers> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let host = world.host(1);
    let consul = Consul::start(host.netns(), host.ip().into(), world.work.path())?;
    world.store = Store::Consul(consul);
    let second = world.store_station.ip.to_string();
    let args = ["--dns", SERVICE, "--dns", &second].map(str::to_owned);
    let options = Options {
        args: args.into(),
        ..Options::default()
    };
    Dockers::on(world, &options)
}

fn run(all: &Dockers, host: usize, command: &[&str]) -> Result<String> {
    match command {
        ["docker", args @ ..] => all.docker(host).cli_ok(args),
        ["overlay-agent", args @ ..] => all.world.host(host).cli_ok(args),
        ["consul", args @ ..] => {
            let netns = all.world.host(host).netns();
            let mut consul = netns.command(tests::packages::consul()?)?;
            let server = all.world.store.address();
            output(
                consul
                    .args(args)
                    .env("CONSUL_HTTP_ADDR", server.to_string()),
            )
        }
        _ => bail!("not a command of the tutorial: {command:?}"),
    }
}

#[test]
fn as_it_is_written() -> Result<()> {
    let all = hosts()?;
    let mut done = Vec::new();
    for (host, words) in lines() {
        // The harness has started these.
        if matches!(
            words[..],
            ["consul", "agent", ..] | ["overlay-agent", "run", ..]
        ) {
            continue;
        }
        let known = |word: &str| match word {
            "busybox" => Ok(IMAGE.to_owned()),
            "ADDRESS-OF-master" => address(all.docker(1), "my_overlay", "master"),
            "ADDRESS-OF-slaver" => address(all.docker(2), "my_overlay", "slaver"),
            word => Ok(word.to_owned()),
        };
        let words: Vec<String> = words.into_iter().map(known).collect::<Result<_>>()?;
        let command: Vec<&str> = words.iter().map(String::as_str).collect();
        let line = command.join(" ");
        let since = Instant::now();
        let removed = done.iter().any(|line: &String| line.contains("network rm"));
        let said = until(CONVERGE, || {
            let said = run(&all, host, &command)?;
            let wanted = match &command[..] {
                ["docker", "exec", .., "ping", _, _, _] => said.contains(" 0% packet loss"),
                [_, "network", "ls", ..] => said.contains("my_overlay") != removed,
                [_, "endpoint", "ls"] => said.contains("master") && said.contains("slaver"),
                ["consul", .., "overlay/v1/networks/"] => said.contains("my_overlay"),
                ["consul", .., "overlay/v1/endpoints/"] => said.contains("slaver"),
                _ => true,
            };
            ensure!(wanted, "{line}: {said}");
            Ok(said)
        });
        let said = said.with_context(|| format!("on host {host}: {line}"))?;
        println!("host{host}$ {line}    ({:?})\n{said}", since.elapsed());
        done.push(line);
    }
    let docker = done.iter().filter(|line| line.starts_with("docker"));
    ensure!(docker.count() >= 13, "not the whole tutorial: {done:?}");
    Ok(())
}
