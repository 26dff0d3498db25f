//! Docker's own overlay network: two Docker daemons that are a Swarm, with the settings that
//! Docker has by itself.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use tests::{
    docker::{Docker, IMAGE, Options},
    kernel_overlay::MTU,
    lab::Host,
    netns::Netns,
};

use super::{
    arms::{Behind, Containers},
    containers::SUBNET,
};

const NETWORK: &str = "bench";

/// The overlay network is the first that a container is attached to.
const DEVICE: &str = "eth0";

/// One container on each host. The first host is the manager of the Swarm.
pub(super) fn containers(hosts: [&Host; 2]) -> Result<Containers> {
    let [one, two] = hosts;
    let dockers = [started(one)?, started(two)?];
    let [manager, worker] = &dockers;
    let (address, other) = (one.ip().to_string(), two.ip().to_string());
    manager.cli_ok(&["swarm", "init", "--advertise-addr", &address])?;
    let token = manager.cli_ok(&["swarm", "join-token", "--quiet", "worker"])?;
    let at = format!("{address}:2377");
    let join = ["swarm", "join", "--advertise-addr", &other, "--token"];
    worker.cli_ok(&[&join[..], &[&token, &at]].concat())?;
    let create = ["network", "create", "--driver", "overlay", "--attachable"];
    manager.cli_ok(&[&create[..], &["--subnet", SUBNET, NETWORK]].concat())?;
    let (first, _) = container(one, manager)?;
    let (second, address) = container(two, worker)?;
    Ok(Containers {
        ends: [first, second],
        address,
        vni: 0,
        _behind: Behind::Dockers(Box::new(dockers)),
    })
}

fn started(host: &Host) -> Result<Docker> {
    let docker = Docker::start(host, Options::default())?;
    docker.load_image()?;
    Ok(docker)
}

/// The namespace of a new container on the network, and its address there.
fn container(host: &Host, docker: &Docker) -> Result<(Netns, Ipv4Addr)> {
    let run = ["run", "--detach", "--init", "--network", NETWORK, IMAGE];
    let id = docker.cli_ok(&[&run[..], &["sleep", "infinity"]].concat())?;
    let inspect = |field: &str| docker.cli_ok(&["inspect", "--format", field, &id]);
    let pid = inspect("{{.State.Pid}}")?;
    let address = inspect(&format!(
        "{{{{.NetworkSettings.Networks.{NETWORK}.IPAddress}}}}"
    ))?;
    let address: Ipv4Addr = address
        .parse()
        .with_context(|| format!("address {address:?} of a container"))?;
    let namespace = docker.inside(&format!("/proc/{pid}/ns/net"));
    let netns = Netns::borrow(&format!("{}-swarm", host.label()), &namespace)?;
    let found = netns.ipv4(DEVICE)?;
    ensure!(found == address, "{DEVICE} has {found} and not {address}");
    let link = netns.ip(&["link", "show", "dev", DEVICE])?;
    ensure!(
        link.contains(&format!(" mtu {MTU} ")),
        "{DEVICE} of a container has not the MTU {MTU}: {link}"
    );
    Ok((netns, address))
}
