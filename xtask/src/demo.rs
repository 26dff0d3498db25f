//! `cargo xtask demo`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tests::{
    agent,
    consul::Consul,
    interrupt,
    lab::{Host, Lab, Station},
    names::require_root,
    netns::Netns,
    store::EmbeddedStore,
    traffic::ping::{Ping, ping},
    wait::until,
    workdir::WorkDir,
};

use crate::{
    build,
    setup::{Program, programs},
};

const NETWORK: &str = "demo";
const SUBNET: &str = "10.42.0.0/24";
const PINGS: u32 = 10;

/// What one host publishes reaches the others well within this time.
const PROPAGATION: Duration = Duration::from_secs(15);

/// Two hosts on this machine, one network across them, a ping both ways; needs root
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep networks and endpoints in a real Consul server instead of the embedded store
    #[arg(long)]
    consul: bool,
}

pub(crate) fn exec(args: &Args) -> Result<()> {
    require_root().context("the demo makes network namespaces and loads eBPF programs")?;
    programs(&[Program::IP, Program::PING])?;
    agent::use_binary(build::agent(true)?);
    interrupt::install()?;

    interrupt::or_interrupted(show(args))?;
    println!("\nAll of it worked, and nothing of it is left on this machine.");
    Ok(())
}

/// Everything made here is removed when this returns, also by an error or Ctrl-C.
fn show(args: &Args) -> Result<()> {
    step("Two hosts and a store on one underlay network (network namespaces on a switch)")?;
    let mut lab = Lab::switched(2)?;
    let machine = lab.station("store")?;
    for host in &lab.hosts {
        println!("  {}: {} on eth0", host.label(), host.ip());
    }
    println!("  store: {}", machine.ip);

    let work = WorkDir::new("demo")?;
    let store = Store::start(args.consul, &machine, &work)?;

    step("An agent on each host")?;
    let url = store.url();
    for host in &mut lab.hosts {
        println!(
            "  {}# overlay-agent run --store {url} --advertise {} --underlay eth0",
            host.label(),
            host.ip()
        );
        host.start_agent(&url)?;
    }

    let [one, two] = lab.hosts.as_slice() else {
        bail!("the demo's lab has two hosts")
    };
    step("A network, created once, on host1; host2 has it too")?;
    run(one, &["network", "create", NETWORK, "--subnet", SUBNET])?;
    until(PROPAGATION, || {
        let networks = two.cli_ok(&["network", "ls"])?;
        ensure!(
            networks.contains(NETWORK),
            "host2 does not have the network {NETWORK}"
        );
        Ok(())
    })?;
    run(two, &["network", "ls"])?;

    step("A container (a network namespace) on each host")?;
    let container1 = container(one, "c1")?;
    let container2 = container(two, "c2")?;
    let (address1, address2) = (container1.ipv4("eth0")?, container2.ipv4("eth0")?);
    println!("  c1 on host1: {address1}\n  c2 on host2: {address2}");

    step("Ping across the hosts, both ways")?;
    for (from, to) in [(&container1, address2), (&container2, address1)] {
        let one_answer = || {
            let first = ping(from, to.into(), 1)?;
            ensure!(first.received == 1, "no answer from {to}");
            Ok(())
        };
        until(PROPAGATION, one_answer).context("the two containers do not reach each other")?;
    }
    for (name, from, to) in [("c1", &container1, address2), ("c2", &container2, address1)] {
        let Ping {
            sent,
            received,
            average_ms,
        } = ping(from, to.into(), PINGS)?;
        let average = average_ms.map_or(String::new(), |ms| format!(", {ms:.3} ms on average"));
        println!("  {name} -> {to}: {received} of {sent} answered{average}");
        ensure!(
            received == sent,
            "{} packets from {name} to {to} were lost",
            sent - received
        );
    }

    step("What the data path counted")?;
    for host in &lab.hosts {
        counters(host)?;
    }

    step("Cleaning up")?;
    for host in &mut lab.hosts {
        host.agent()?.stop(Duration::from_secs(10))?;
        run(host, &["detach", "--all"])?;
    }
    Ok(())
}

/// Says what comes next, unless somebody has seen enough.
fn step(title: &str) -> Result<()> {
    interrupt::check()?;
    println!("\n== {title}");
    Ok(())
}

/// Runs a command of the agent on a host and shows both.
fn run(host: &Host, args: &[&str]) -> Result<()> {
    println!("  {}# overlay-agent {}", host.label(), args.join(" "));
    for line in host.cli_ok(args)?.lines() {
        println!("  {line}");
    }
    Ok(())
}

fn container(host: &Host, name: &str) -> Result<Netns> {
    let container = host.container(name)?;
    println!(
        "  {}# overlay-agent endpoint add --network {NETWORK} --netns {}",
        host.label(),
        container.path().display()
    );
    host.add_endpoint(NETWORK, &container, &[])?;
    Ok(container)
}

/// Prints the counters and checks that the pings are among them.
fn counters(host: &Host) -> Result<()> {
    const PACKETS: &str = "overlay_vni_packets_total";
    println!("  {}# curl http://{}/metrics", host.label(), agent::METRICS);
    let metrics = host.metrics()?;
    for name in [
        PACKETS,
        "overlay_vni_bytes_total",
        "overlay_vni_drops_total",
    ] {
        for line in metrics.lines(name) {
            println!("  {line}");
        }
    }
    for direction in ["tx", "rx"] {
        let labels = [("network", NETWORK), ("direction", direction)];
        let counted = metrics.sum(PACKETS, &labels)?.unwrap_or(0.0);
        // Requests one way and answers the other.
        ensure!(
            counted >= f64::from(2 * PINGS),
            "{} counted only {counted} packets {direction}",
            host.label()
        );
    }
    Ok(())
}

/// The server that both agents read and write.
enum Store {
    Embedded(EmbeddedStore),
    Consul(Consul),
}

impl Store {
    fn start(consul: bool, machine: &Station, work: &WorkDir) -> Result<Self> {
        let (netns, ip) = (&machine.netns, machine.ip.into());
        if consul {
            step("A Consul server")?;
            Ok(Self::Consul(Consul::start(netns, ip, work.path())?))
        } else {
            step("The embedded store (the same HTTP API as Consul)")?;
            Ok(Self::Embedded(EmbeddedStore::start(
                netns,
                ip,
                work.path(),
            )?))
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Embedded(store) => store.url(),
            Self::Consul(store) => store.url(),
        }
    }
}
