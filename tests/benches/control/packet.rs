//! From the request for an endpoint to its first packet from another host.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use overlay_agent::api::client::Client;
use overlay_agent::api::types::{At, Endpoint, EndpointRequest};
use overlay_agent::control::endpoints::mac_for;
use tests::interrupt;
use tests::netns::Netns;

use crate::process::Load;
use crate::report::{Limit, Report, Row};
use crate::spread::milliseconds;
use crate::world::{NETWORK, World, real_ip};

const PORT: u16 = 5004;
/// Between datagrams: the figure is not finer than this.
const PAUSE: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of the addresses of real endpoints, behind those of [`World::start_agent`].
const FIRST: u32 = 256;

/// The sender is on the first host, the new endpoints are on the second.
pub fn measure(world: &mut World, quick: bool, report: &mut Report) -> Result<()> {
    let count = if quick { 20 } else { 100 };
    world.start_agent(1)?;
    let to = AtomicU32::new(real_ip(FIRST).to_bits());
    let stop = AtomicBool::new(false);
    let (from, world) = (world.container()?, &*world);
    let load = Load::start(world.consul_pid)?;
    let before = syncs(world)?;
    let times = thread::scope(|scope| {
        let sending = scope.spawn(|| send(from, &to, &stop));
        let times = (0..count)
            .map(|i| one(world, from, real_ip(FIRST + i), &to))
            .collect::<Result<Vec<_>>>();
        stop.store(true, Ordering::Relaxed);
        sending
            .join()
            .map_err(|_| anyhow!("the sender panicked"))??;
        times
    })?;
    let used = load.stop()?;
    let after = syncs(world)?;
    let sync = (after.1 - before.1) / (after.0 - before.0) * 1e3;
    let (packets, answers): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    let packets = Row::new("endpoint_to_packet_ms", "first packet", &packets, used);
    report.add(packets.target(&[Limit::P99(100.0)]).note(format!(
        "a sync of the second host takes {sync:.1} ms on average"
    )));
    report.add(Row::new(
        "endpoint_add_ms",
        "the agent's answer",
        &answers,
        used,
    ));
    Ok(())
}

/// How often the second host's agent has brought its data path in line as a whole, and the seconds that took.
fn syncs(world: &World) -> Result<(f64, f64)> {
    let metrics = world.host(1).metrics()?;
    let sum = |name| {
        metrics
            .sum(name, &[])?
            .with_context(|| format!("no {name}"))
    };
    let seconds = sum("overlay_sync_duration_seconds_sum")?;
    Ok((sum("overlay_sync_duration_seconds_count")?, seconds))
}

/// Milliseconds until the first packet, and until the agent's answer.
fn one(world: &World, from: &Netns, ip: Ipv4Addr, to: &AtomicU32) -> Result<(f64, f64)> {
    interrupt::check()?;
    let host = world.host(1);
    let container = host.container("late")?;
    let (address, mac) = (ip.to_string(), mac_for(ip).to_string());
    let neighbor = ["neigh", "replace", &address, "lladdr", &mac];
    from.ip(&[&neighbor[..], &["dev", "eth0", "nud", "permanent"]].concat())?;
    // Before there is a device: nothing is missed.
    let any = (Ipv4Addr::UNSPECIFIED, PORT);
    let socket = container.run(|| UdpSocket::bind(any).context("bind a UDP socket"))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    to.store(ip.to_bits(), Ordering::Relaxed);
    let request = EndpointRequest {
        network: NETWORK.to_owned(),
        name: None,
        ips: vec![ip.into()],
        mac: None,
        allow_ips: Vec::new(),
        forwarding: false,
        container: None,
        at: At::Netns {
            path: container.path(),
            ifname: "eth0".to_owned(),
        },
    };
    let agent = Client::new(&host.work().folder("run")?.join("agent.sock"))?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    // The connection to the agent is there.
    runtime.block_on(agent.get::<serde_json::Value>(&["status"]))?;
    let receiving = thread::spawn(move || -> Result<Instant> {
        socket.recv(&mut [0; 64]).context("no packet arrived")?;
        Ok(Instant::now())
    });
    let started = Instant::now();
    let added: Endpoint = runtime.block_on(agent.post(&["endpoints"], &request))?;
    let answered = Instant::now();
    let arrived = receiving
        .join()
        .map_err(|_| anyhow!("the receiver panicked"))??;
    runtime.block_on(agent.delete(&["endpoints", &added.id]))?;
    Ok((
        milliseconds(arrived - started),
        milliseconds(answered - started),
    ))
}

/// A datagram every now and then to whatever address is the one, which may be nobody's.
fn send(from: &Netns, to: &AtomicU32, stop: &AtomicBool) -> Result<()> {
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let socket = from.run(|| UdpSocket::bind(any).context("bind a UDP socket"))?;
    while !stop.load(Ordering::Relaxed) {
        let to = Ipv4Addr::from_bits(to.load(Ordering::Relaxed));
        // Refused before there is a neighbour entry.
        let _ = socket.send_to(b"datagram", (to, PORT));
        thread::sleep(PAUSE);
    }
    Ok(())
}
