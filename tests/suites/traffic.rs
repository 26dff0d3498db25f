//! Every kind of traffic between two containers on two hosts: what was sent arrives, unchanged,
//! counted, and the way that it should.

mod datagrams;
mod forwarding;
mod next_hop;
mod other;
mod segments;
mod xdp_decap;

use anyhow::{Result, ensure};
use tests::lab::Host;
use tests::wait::until;

use crate::support::{CONVERGE, Container, StoreKind, World, count, reachable};

/// Two hosts with a container each on the network `blue`, which reach each other.
struct Pair {
    one: Container,
    two: Container,
    // After the containers: their hosts' namespaces go last.
    world: World,
}

impl Pair {
    fn new() -> Result<Self> {
        Self::on(World::new(StoreKind::Embedded)?)
    }

    /// In a world whose agents run.
    fn on(world: World) -> Result<Self> {
        world.create_network("blue", &["--subnet", "10.8.0.0/24"])?;
        let one = world.container(1, "blue", "one")?;
        let two = world.container(2, "blue", "two")?;
        reachable(&one, &two, 3)?;
        Ok(Self { one, two, world })
    }

    /// Sender and receiver, with their hosts, there and back.
    fn ways(&self) -> [Way<'_>; 2] {
        let (one, two) = (
            (&self.one, self.world.host(1)),
            (&self.two, self.world.host(2)),
        );
        [Way { from: one, to: two }, Way { from: two, to: one }]
    }
}

struct Way<'a> {
    from: (&'a Container, &'a Host),
    to: (&'a Container, &'a Host),
}

fn packets(host: &Host, direction: &str) -> Result<u64> {
    count(
        host,
        "overlay_vni_packets_total",
        &[("direction", direction)],
    )
}

fn bytes(host: &Host, direction: &str) -> Result<u64> {
    count(host, "overlay_vni_bytes_total", &[("direction", direction)])
}

fn drops(host: &Host, reason: &str) -> Result<u64> {
    count(host, "overlay_vni_drops_total", &[("reason", reason)])
}

fn fallbacks(host: &Host, direction: &str, cause: &str) -> Result<u64> {
    let labels = [("direction", direction), ("cause", cause)];
    count(host, "overlay_fallback_packets_total", &labels)
}

/// Waits until a counter has grown by exactly this much, and finds that it stays there.
fn grows_by(wanted: u64, what: &str, before: u64, read: impl Fn() -> Result<u64>) -> Result<()> {
    let grown = until(CONVERGE, || {
        let grown = read()? - before;
        ensure!(grown >= wanted, "{what}: {grown} of {wanted}");
        Ok(grown)
    })?;
    ensure!(grown == wanted, "{what}: {grown}, not {wanted}");
    Ok(())
}
