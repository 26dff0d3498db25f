//! Two hosts with an agent and a Docker each, and a Consul.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::agent::START_TIMEOUT;
use tests::docker::{Docker, IMAGE, Options};
use tests::process::Daemon;
use tests::wait::until;

use crate::support::dns::Upstream;
use crate::support::{CONVERGE, Store, StoreKind, World};

/// What our drivers are called.
pub(super) const DRIVER: &str = "overlay-ebpf";

/// Dropped in this order: Docker's daemons first.
pub(super) struct Dockers {
    pub(super) dockers: [Docker; 2],
    /// What both hosts ask for names out there.
    pub(super) upstream: Upstream,
    pub(super) world: World,
}

impl Dockers {
    pub(super) fn new() -> Result<Self> {
        Self::with(&Options::default())
    }

    /// The daemons started with these options.
    pub(super) fn with(options: &Options) -> Result<Self> {
        Self::on(World::without_agents(StoreKind::Consul)?, options)
    }

    /// In a world without agents.
    pub(super) fn on(mut world: World, options: &Options) -> Result<Self> {
        let upstream = Upstream::start(&world.store_station.netns, world.store_station.ip)?;
        std::fs::write(resolv_conf(&world), upstream.resolv_conf())?;
        let mut dockers = Vec::new();
        for n in [1, 2] {
            let version = tests::docker::DockerVersion::from_env()?;
            let mut docker = Docker::new(world.host(n), version, options.clone())?;
            start_agent(&mut world, n, &docker)?;
            docker.spawn()?;
            dockers.push(docker);
        }
        for docker in &mut dockers {
            docker.wait_ready(START_TIMEOUT)?;
            docker.load_image()?;
        }
        let dockers = dockers.try_into().ok().context("two daemons")?;
        Ok(Self {
            dockers,
            upstream,
            world,
        })
    }

    /// The store's process.
    pub(super) fn consul(&mut self) -> Result<&mut Daemon> {
        match &mut self.world.store {
            Store::Consul(consul) => Ok(consul.daemon()),
            Store::Embedded(_) => anyhow::bail!("not Consul"),
        }
    }

    pub(super) fn docker(&self, n: usize) -> &Docker {
        &self.dockers[n - 1]
    }

    /// `docker network create` with our drivers.
    pub(super) fn create(&self, n: usize, name: &str, more: &[&str]) -> Result<()> {
        let args = ["network", "create", "-d", DRIVER, "--ipam-driver", DRIVER];
        self.docker(n)
            .cli_ok(&[&args, more, &[name]].concat())
            .map(drop)
    }

    /// A container that sleeps; its address on the network.
    pub(super) fn run(&self, n: usize, network: &str, name: &str, more: &[&str]) -> Result<String> {
        let docker = self.docker(n);
        let args = ["run", "-d", "--init", "--network", network, "--name", name];
        docker.cli_ok(&[&args, more, &[IMAGE, "sleep", "1000"]].concat())?;
        address(docker, network, name)
    }

    /// Waits until both hosts' Docker has the network.
    pub(super) fn everywhere(&self, name: &str) -> Result<()> {
        for docker in &self.dockers {
            until(CONVERGE, || {
                ensure!(
                    networks(docker)?.contains(&name.to_owned()),
                    "{name} is not there"
                );
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until no host has it, Docker or overlay.
    pub(super) fn nowhere(&self, name: &str) -> Result<()> {
        for (n, docker) in [1, 2].into_iter().zip(&self.dockers) {
            until(CONVERGE, || {
                ensure!(
                    !networks(docker)?.contains(&name.to_owned()),
                    "{name} is in Docker"
                );
                let listed = self.world.host(n).cli_json(&["network", "ls"])?;
                ensure!(
                    !listed.to_string().contains(&format!("\"{name}\"")),
                    "{listed}"
                );
                Ok(())
            })?;
        }
        Ok(())
    }
}

pub(super) fn start_agent(world: &mut World, n: usize, docker: &Docker) -> Result<()> {
    spawn_agent(world, n, docker)?;
    world.host_mut(n).wait_agent_ready(START_TIMEOUT)
}

/// The same without waiting for it.
pub(super) fn spawn_agent(world: &mut World, n: usize, docker: &Docker) -> Result<()> {
    let store = world.store.url();
    spawn_agent_between(world, n, docker, docker.plugins(), &store)
}

/// The same with the drivers' socket in another folder than Docker's, and another way to the store.
pub(super) fn spawn_agent_between(
    world: &mut World,
    n: usize,
    docker: &Docker,
    plugins: &Path,
    store: &str,
) -> Result<()> {
    let socket = docker.socket();
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path");
    let (socket, plugins) = (text(&socket)?, text(plugins)?);
    let names = text(&resolv_conf(world))?;
    let more = [
        "--resolv-conf",
        &names,
        "--docker",
        "--docker-socket",
        &socket,
        "--docker-plugins",
        &plugins,
    ];
    world.host_mut(n).spawn_agent(store, &more)
}

/// Names the hosts' servers.
fn resolv_conf(world: &World) -> PathBuf {
    world.work.path().join("resolv.conf")
}

/// Names of the networks of our driver.
pub(super) fn networks(docker: &Docker) -> Result<Vec<String>> {
    let filter = format!("driver={DRIVER}");
    let said = docker.cli_ok(&[
        "network",
        "ls",
        "--filter",
        &filter,
        "--format",
        "{{.Name}}",
    ])?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// What Docker says of a container.
pub(super) fn inspect(docker: &Docker, name: &str) -> Result<Value> {
    let said: Value = serde_json::from_str(&docker.cli_ok(&["inspect", name])?)?;
    Ok(said[0].clone())
}

/// A container's address on a network, by Docker.
pub(super) fn address(docker: &Docker, network: &str, name: &str) -> Result<String> {
    let said = inspect(docker, name)?;
    let address = said["NetworkSettings"]["Networks"][network]["IPAddress"].as_str();
    address
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .with_context(|| format!("{name} has no address on {network}"))
}

/// Pings from inside a container, none lost.
pub(super) fn reaches(docker: &Docker, from: &str, to: &str) -> Result<()> {
    let said = until(CONVERGE, || {
        docker.cli_ok(&["exec", from, "ping", "-c", "3", "-W", "2", to])
    })?;
    ensure!(said.contains(" 0% packet loss"), "{from} to {to}: {said}");
    Ok(())
}
