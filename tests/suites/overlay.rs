//! Two hosts, one overlay: what the project is for, on each store.

mod addresses;
mod endpoints;
mod moving;

use anyhow::{Result, ensure};
use tests::traffic::tcp::transfer;

use crate::support::{StoreKind, World, network, reachable};

const GIB: u64 = 1 << 30;

#[test]
fn on_consul() -> Result<()> {
    one_network_everywhere(StoreKind::Consul)
}

#[test]
fn on_the_embedded_store() -> Result<()> {
    one_network_everywhere(StoreKind::Embedded)
}

fn one_network_everywhere(kind: StoreKind) -> Result<()> {
    let world = World::new(kind)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    ensure!(
        network(world.host(1), "blue")? == network(world.host(2), "blue")?,
        "the hosts disagree about the network"
    );

    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    let three = world.container(2, "blue", "three")?;
    ensure!(
        one.ip != two.ip && two.ip != three.ip && one.ip != three.ip,
        "an address was given twice"
    );
    reachable(&one, &two, 20)?;
    reachable(&two, &one, 20)?;
    // Two containers of one host.
    reachable(&two, &three, 20)?;

    // The namespaces' devices have segmentation offload on, as a new veth has.
    transfer(&one.netns, &two.netns, two.address(5001), GIB)?.verify()?;
    transfer(&two.netns, &one.netns, one.address(5001), GIB / 4)?.verify()?;

    for host in [1, 2] {
        let metrics = world.host(host).metrics()?;
        for reason in [
            "source_mac",
            "inner_source",
            "encap_failed",
            "decap_failed",
            "too_big",
        ] {
            let dropped = metrics.sum("overlay_vni_drops_total", &[("reason", reason)])?;
            ensure!(dropped.unwrap_or(0.0) == 0.0, "{reason}: {dropped:?} drops");
        }
    }

    // What is removed is gone everywhere.
    world.host(2).cli_ok(&["endpoint", "rm", "two"])?;
    tests::wait::until(crate::support::CONVERGE, || {
        let lost = tests::traffic::ping::ping(&one.netns, two.ip.into(), 1)?.lost();
        ensure!(lost == 1, "a removed endpoint still answers");
        Ok(())
    })
}
