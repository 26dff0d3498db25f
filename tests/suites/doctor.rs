//! `doctor`: what is wrong with a host, and what to do about it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::lab::{Host, UNDERLAY};
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World};

/// Exit code, and outcome and text of each check.
struct Visit {
    code: i32,
    found: Vec<(String, String, String)>,
}

impl Visit {
    fn to(host: &Host, more: &[&str]) -> Result<Self> {
        let args = [&["doctor", "-o", "json"], more].concat();
        let said = host.cli(&args)?;
        let found: Value = serde_json::from_str(&said.stdout)
            .with_context(|| format!("{args:?}: {} {}", said.stdout, said.stderr))?;
        let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let found = found.as_array().context("no list")?.iter();
        Ok(Self {
            code: said.code,
            found: found
                .map(|one| (text(one, "what"), text(one, "outcome"), text(one, "said")))
                .collect(),
        })
    }

    /// The check came out so, and says that.
    fn says(&self, what: &str, outcome: &str, said: &str) -> Result<()> {
        let found = self
            .found
            .iter()
            .any(|(w, o, s)| (&w[..], &o[..]) == (what, outcome) && s.contains(said));
        ensure!(
            found,
            "no {what} {outcome} with {said:?} in {:#?}",
            self.found
        );
        Ok(())
    }

    /// Nothing else is wrong than these.
    fn wrong(&self, wanted: &[&str]) -> Result<()> {
        let failed = self
            .found
            .iter()
            .filter(|(_, outcome, _)| outcome == "failed");
        let failed: Vec<_> = failed.map(|(what, ..)| what.as_str()).collect();
        ensure!(
            failed == wanted,
            "{failed:?}, not {wanted:?}: {:#?}",
            self.found
        );
        ensure!(
            self.code == i32::from(!wanted.is_empty()),
            "exit code {}",
            self.code
        );
        Ok(())
    }
}

#[test]
fn from_nothing_to_a_running_agent() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Consul)?;
    let url = world.store.url();
    let options = ["--store", &url, "--underlay", UNDERLAY];
    let visit = Visit::to(world.host(1), &options)?;
    visit.wrong(&["data path", "agent"])?;
    visit.says("store", "ok", "no agent has used it yet")?;
    visit.says("port", "ok", "UDP 4789 is free")?;
    visit.says("agent", "failed", "is `overlay-agent run` running?")?;
    world.start_agents(&[])?;
    let visit = Visit::to(world.host(1), &options)?;
    visit.wrong(&[])?;
    visit.says("agent", "ok", "host1 runs version")?;
    visit.says("data path", "ok", "loaded")?;
    // For people.
    let said = world
        .host(1)
        .cli_ok(&[&["doctor"], &options[..]].concat())?;
    ensure!(
        said.contains("CHECK") && said.contains("underlay"),
        "{said}"
    );

    world.host_mut(1).agent()?.kill9()?;
    let visit = Visit::to(world.host(1), &options)?;
    visit.wrong(&["agent"])?;
    visit.says("data path", "warning", "goes on with what it knew")?;
    world.host(1).cli_ok(&["detach"])?;
    let visit = Visit::to(world.host(1), &options)?;
    visit.wrong(&["data path", "agent"])
}

#[test]
fn what_is_wrong_has_a_name() -> Result<()> {
    let world = World::without_agents(StoreKind::Embedded)?;
    let host = world.host(1);
    host.netns().ip(&[
        "link", "add", "vx", "type", "vxlan", "id", "9", "dstport", "4789",
    ])?;
    host.netns().ip(&["link", "set", "vx", "up"])?;
    let visit = Visit::to(
        host,
        &["--store", "http://192.0.2.99:8500", "--underlay", "nowhere"],
    )?;
    visit.wrong(&["underlay", "port", "store", "data path", "agent"])?;
    visit.says("port", "failed", "ip -d link show type vxlan")?;
    visit.says("underlay", "failed", "nowhere")?;
    let visit = Visit::to(host, &["--bpffs-dir", "/tmp/overlay-no-bpffs"])?;
    visit.says("bpffs", "failed", "mount -t bpf")?;
    visit.says("store", "ok", "embedded")
}

/// What the agent itself complains of.
#[test]
fn problems_of_the_agent() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    let url = world.store.url();
    let options = ["--store", &url, "--underlay", UNDERLAY];
    world.create_network("blue", &[])?;
    let web = world.container(1, "blue", "web")?;
    drop(web);
    // Whatever makes the agent look.
    world.create_network("red", &[])?;
    until(CONVERGE, || {
        let visit = Visit::to(world.host(1), &options)?;
        visit.says("problem", "failed", "its interface")?;
        visit.wrong(&["problem"])
    })
}

/// Docker is looked at when it is to be served.
#[test]
fn docker() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let url = world.store.url();
    let plugins = world.host(1).plugins()?;
    let plugins = plugins.to_str().context("a path")?.to_owned();
    let docker = [
        "--docker",
        "--docker-socket",
        "/nowhere/docker.sock",
        "--docker-plugins",
        &plugins,
    ];
    let options = [&["--store", &url, "--underlay", UNDERLAY], &docker[..]].concat();
    let visit = Visit::to(world.host(1), &options)?;
    visit.says("docker", "failed", "/nowhere/docker.sock")?;
    visit.says("docker plugin", "failed", "start the agent with --docker")?;
    world.host_mut(1).start_agent_with(&url, &docker)?;
    let visit = Visit::to(world.host(1), &options)?;
    visit.says("docker plugin", "ok", "IpamDriver")?;
    world.host_mut(1).agent()?.kill9()?;
    let visit = Visit::to(world.host(1), &options)?;
    visit.says("docker plugin", "failed", "is dead, start it again")
}
