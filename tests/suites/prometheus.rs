//! A real Prometheus scrapes an agent.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::prometheus::{Prometheus, check_metrics};
use tests::traffic::udp::{UdpCounter, send};
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World, reachable};

const DATAGRAMS: u64 = 1000;

#[test]
fn scrapes_and_counts() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;
    for host in [1, 2] {
        check_metrics(world.host(host).metrics()?.text())?;
    }

    let target = tests::agent::METRICS.to_string();
    let prometheus = Prometheus::start(world.host(1).netns(), world.work.path(), &[&target])?;
    let sent = "sum(overlay_vni_packets_total{network=\"blue\",direction=\"tx\"})";
    let before = until(CONVERGE, || prometheus.query(sent))?;
    let counter = UdpCounter::start(&two.netns, two.address(7000), None)?;
    send(
        &one.netns,
        two.address(7000),
        100,
        DATAGRAMS,
        Duration::from_micros(100),
    )?;
    until(CONVERGE, || {
        ensure!(counter.received() == DATAGRAMS, "{}", counter.received());
        Ok(())
    })?;
    until(CONVERGE, || {
        let counted = prometheus.query(sent)? - before;
        ensure!(counted >= DATAGRAMS as f64, "{counted} counted");
        Ok(())
    })?;
    // Beyond the datagrams only what the kernel sends by itself: nothing, once neighbours are known.
    let counted = prometheus.query(sent)? - before;
    ensure!(
        counted == DATAGRAMS as f64,
        "{DATAGRAMS} sent, {counted} counted"
    );
    ensure!(prometheus.query("overlay_store_up")? == 1.0);
    ensure!(prometheus.query("overlay_peers")? == 1.0);
    ensure!(prometheus.query("overlay_endpoints{network=\"blue\"}")? == 1.0);
    // Of 65 534 the gateway and the two have one each. They do not get fewer.
    let free = prometheus.query("overlay_addresses_free{network=\"blue\",family=\"ipv4\"}")?;
    ensure!(free == 65_531.0, "{free}");
    let lasts = prometheus.query("overlay_addresses_exhaustion_seconds{network=\"blue\"}")?;
    ensure!(lasts > 0.0, "{lasts}");
    Ok(())
}
