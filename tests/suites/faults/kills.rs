//! The agent is killed at each request that `endpoint add` and `endpoint rm` make of the store, before the store
//! has it and after it was done: the endpoint is there as a whole or not at all, and nothing of it stays.

use anyhow::{Context as _, Result, ensure};
use tests::netns::Netns;
use tests::traffic::ping::ping;
use tests::wait::until;

use crate::support::relay::{Moment, Relay};
use crate::support::snapshot::Snapshot;
use crate::support::{CONVERGE, Container, StoreKind, World};

/// More requests than this no command makes.
const MOST: usize = 30;

#[derive(Clone, Copy, Debug)]
enum Command {
    Add,
    Remove,
}

#[test]
fn agent_killed_while_an_endpoint_is_added() -> Result<()> {
    // The block's list, the claim, the read and the write of what is published.
    killed_at_each_request(Command::Add, 4)
}

#[test]
fn agent_killed_while_an_endpoint_is_removed() -> Result<()> {
    // The read and the write of what is withdrawn, the read and the release of the address.
    killed_at_each_request(Command::Remove, 4)
}

fn killed_at_each_request(command: Command, least: usize) -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let relay = Relay::start(world.host(1).netns(), world.store.address())?;
    let (behind, url) = (relay.url(), world.store.url());
    world.host_mut(1).start_agent(&behind)?;
    world.host_mut(2).start_agent(&url)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let before = Snapshot::of(&world)?;
    let there = world.container(2, "blue", "there")?;
    for moment in [Moment::Asked, Moment::Done] {
        for number in 1.. {
            ensure!(number < MOST, "{command:?} makes no end of requests");
            let name = format!("{moment:?}{number}").to_lowercase();
            let netns = world.host(1).container(&name)?;
            let path = netns.path().display().to_string();
            let add = ["endpoint", "add", "--network", "blue", "--netns", &path];
            let add = [&add[..], &["--name", &name]].concat();
            let line = match command {
                Command::Add => add,
                Command::Remove => {
                    world.host(1).cli_ok(&add)?;
                    vec!["endpoint", "rm", &name]
                }
            };
            let pid = world.host_mut(1).agent()?.pid();
            relay.strike_at(number, moment, pid);
            let said = world.host(1).cli(&line)?;
            if !relay.has_struck() {
                ensure!(said.code == 0, "{said:?}");
                ensure!(number > least, "{command:?} makes {number} requests only");
                world.host(1).cli(&["endpoint", "rm", &name])?;
                break;
            }
            world.host_mut(1).agent()?.kill9()?;
            world.host_mut(1).start_agent(&behind)?;
            gone_or_whole(&world, &there, &name, &netns)
                .with_context(|| format!("{command:?}, request {number}, {moment:?}"))?;
        }
    }
    world.host(2).cli_ok(&["endpoint", "rm", "there"])?;
    before.comes_back(&world)
}

/// What is there works, and is removed.
fn gone_or_whole(world: &World, there: &Container, name: &str, netns: &Netns) -> Result<()> {
    let host = world.host(1);
    let listed = host.cli_json(&["endpoint", "ls"])?;
    let listed = listed.as_array().context("no list")?;
    if listed.iter().any(|endpoint| endpoint["name"] == name) {
        let ip = netns.ipv4("eth0")?.into();
        until(CONVERGE, || {
            ensure!(ping(&there.netns, ip, 1)?.lost() == 0, "no answer");
            Ok(())
        })?;
        host.cli_ok(&["endpoint", "rm", name])?;
    }
    until(CONVERGE, || {
        let links = netns.ip(&["-o", "link"])?;
        ensure!(!links.contains("eth0"), "an interface is left: {links}");
        Ok(())
    })
}
