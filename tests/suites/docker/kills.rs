//! Agent or daemon is killed at each call of a container's start and end, before the agent has done it and
//! after: nothing stays, and what was stopped can be started again.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tests::agent::START_TIMEOUT;
use tests::docker::IMAGE;
use tests::wait::until;

use super::pair::Pair;
use super::relay::{Kill, Moment, Relay, Victim, start_behind};
use super::world::{Dockers, address, spawn_agent_between, start_agent};
use crate::support::CONVERGE;
use crate::support::relay::Relay as StoreRelay;
use crate::support::snapshot::keys;

const START: [&str; 3] = [
    "IpamDriver.RequestAddress",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.Join",
];
const END: [&str; 3] = [
    "NetworkDriver.Leave",
    "NetworkDriver.DeleteEndpoint",
    "IpamDriver.ReleaseAddress",
];

/// Of the containers that are stopped and started again.
const FIXED: &str = "10.70.9.9";

/// Longest that Docker takes to come to a call.
const CALLED: Duration = Duration::from_secs(20);

type Step = (Command, &'static str, Moment);

/// At a call of which something is killed.
#[derive(Clone, Copy, Debug)]
enum Command {
    Run,
    Stop,
    Remove,
}

#[test]
fn agent_killed_at_each_call() -> Result<()> {
    killed_at_each_call(Victim::Agent)
}

#[test]
fn daemon_killed_at_each_call() -> Result<()> {
    killed_at_each_call(Victim::Daemon)
}

fn killed_at_each_call(victim: Victim) -> Result<()> {
    let mut relayed = Relayed::new()?;
    let calls = |command, calls: [&'static str; 3]| calls.map(|call| (command, call));
    let steps = [
        calls(Command::Run, START),
        calls(Command::Stop, END),
        calls(Command::Remove, END),
    ];
    for (number, (command, call)) in steps.into_iter().flatten().enumerate() {
        for moment in [Moment::Asked, Moment::Done] {
            // Each step has a name of its own, and none clears up after another: it is enough to look at the
            // end for what is left.
            let name = format!("{moment:?}{number}");
            relayed
                .killed_at(victim, (command, call, moment), &name)
                .with_context(|| format!("{victim:?} killed at {command:?}: {call} {moment:?}"))?;
        }
    }
    relayed.pair.reachable()?;
    relayed.pair.remove_all()
}

/// Its read before the write that puts an endpoint into the store: the devices are there by then.
const BEFORE_STORE: &str = r#""Verb":"get-tree","Key":"overlay/v1/endpoints/"#;

/// In the middle of a call, when nobody but the host knows of an endpoint's devices.
#[test]
fn agent_killed_before_an_endpoint_is_in_the_store() -> Result<()> {
    let mut pair = Pair::new(true)?;
    pair.kill_agent()?;
    let Dockers { dockers, world, .. } = &mut pair.all;
    let docker = &dockers[0];
    let store = StoreRelay::start(world.host(1).netns(), world.store.address())?;
    spawn_agent_between(world, 1, docker, docker.plugins(), &store.url())?;
    world.host_mut(1).wait_agent_ready(START_TIMEOUT)?;
    store.cut_at(BEFORE_STORE);
    thread::scope(|scope| {
        let asked = scope.spawn(|| docker.cli(&Command::Run.line("three")));
        until(CALLED, || {
            ensure!(store.is_cut(), "no endpoint was on its way to the store");
            Ok(())
        })?;
        world.host_mut(1).agent()?.kill9()?;
        let links = world.host(1).netns().ip(&["-o", "link"])?;
        // The container's end is not in the container yet.
        ensure!(links.contains(": ovc"), "{links}");
        start_agent(world, 1, docker)?;
        let asked = asked.join().map_err(|_| anyhow!("panicked"))?;
        asked.map(drop)
    })?;
    let published = keys(&pair.all.world, "endpoints/")?;
    let published = published.iter().filter(|key| !key.ends_with('/'));
    ensure!(published.count() == 2);
    pair.all.docker(1).cli(&Command::Remove.line("three"))?;
    pair.reachable()?;
    pair.remove_all()
}

struct Relayed {
    pair: Pair,
    relay: Relay,
}

impl Relayed {
    /// Host 1's agent is behind the relay.
    fn new() -> Result<Self> {
        let mut pair = Pair::new(true)?;
        let relay = Relay::between(&mut pair.all)?;
        let this = Self { pair, relay };
        this.ordinary()?;
        Ok(this)
    }

    /// Docker makes the calls that are killed at, in this order.
    fn ordinary(&self) -> Result<()> {
        let docker = self.pair.all.docker(1);
        self.relay.take_calls();
        docker.cli_ok(&Command::Run.line("zero"))?;
        docker.cli_ok(&Command::Remove.line("zero"))?;
        let calls = self.relay.take_calls();
        let mut calls: Vec<_> = calls.iter().map(|(call, _)| call.as_str()).collect();
        let wanted = [START, END].concat();
        calls.retain(|call| wanted.contains(call));
        ensure!(calls == wanted, "{calls:?}");
        Ok(())
    }

    /// Runs a container with an address of its own, and waits until its endpoint has its name.
    fn runs_at(&self, ip: &str, name: &str) -> Result<()> {
        self.pair.all.run(1, "blue", name, &["--ip", ip])?;
        until(CONVERGE, || {
            let listed = self.pair.all.world.host(1).cli_json(&["endpoint", "ls"])?;
            let all = listed.as_array().context("no list")?;
            ensure!(all.iter().any(|one| one["name"] == name), "{listed}");
            Ok(())
        })
    }

    fn killed_at(
        &mut self,
        victim: Victim,
        (command, call, moment): Step,
        name: &str,
    ) -> Result<()> {
        match command {
            Command::Run => {}
            Command::Stop => self.runs_at(FIXED, name)?,
            Command::Remove => drop(self.pair.all.run(1, "blue", name, &[])?),
        }
        let Dockers { dockers, world, .. } = &mut self.pair.all;
        let pid = match victim {
            Victim::Agent => world.host_mut(1).agent()?.pid(),
            Victim::Daemon => dockers[0].dockerd()?.pid(),
        };
        self.relay.arm(Kill {
            call,
            moment,
            victim,
            pid,
        });
        thread::scope(|scope| {
            let docker = &dockers[0];
            let asked = scope.spawn(move || docker.cli(&command.line(name)));
            until(CALLED, || {
                ensure!(self.relay.has_struck(), "the call did not come");
                Ok(())
            })?;
            // Docker goes on asking an agent for a while, and its command ends with the daemon.
            if matches!(victim, Victim::Agent) {
                start_behind(world, docker)?;
            }
            let asked = asked.join().map_err(|_| anyhow!("panicked"))?;
            asked.map(drop)
        })?;
        if matches!(victim, Victim::Daemon) {
            dockers[0].restart()?;
        }
        if matches!(command, Command::Stop) {
            // At once, with the address that nobody may have been asked to release.
            dockers[0].cli_ok(&["start", name])?;
            ensure!(address(&dockers[0], "blue", name)? == FIXED);
        }
        dockers[0].cli(&Command::Remove.line(name))?;
        let listed = dockers[0].cli_ok(&["ps", "-a", "--format", "{{.Names}}"])?;
        ensure!(listed == "one", "containers: {listed}");
        Ok(())
    }
}

impl Command {
    fn line(self, name: &str) -> Vec<&str> {
        match self {
            Self::Run => {
                let args = ["run", "-d", "--init", "--network", "blue", "--name", name];
                [&args[..], &[IMAGE, "sleep", "1000"]].concat()
            }
            Self::Stop => vec!["stop", "-t", "1", name],
            Self::Remove => vec!["rm", "-f", name],
        }
    }
}
