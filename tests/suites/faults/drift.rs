//! Somebody changes the maps behind the agent's back.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use overlay_agent::datapath::Paths;
use overlay_common::layout::{FdbKey, FdbValue};
use overlay_common::maps::FDB;
use tests::lab::Host;
use tests::wait::until;

use crate::support::{CONVERGE, Container, StoreKind, World, count, reachable, vni_of};

fn fdb(host: &Host) -> Result<HashMap<MapData, FdbKey, FdbValue>> {
    let pin = Paths::new(host.pins()).map(FDB);
    let map = Map::from_map_data(MapData::from_pin(pin)?)?;
    Ok(HashMap::try_from(map)?)
}

/// Two containers that reach each other, and how often host 1 looks at its maps.
fn world(seconds: &str) -> Result<(World, Container, Container)> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    world.start_agents(&["--audit-interval", seconds])?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 1)?;
    Ok((world, one, two))
}

#[test]
fn is_shown() -> Result<()> {
    let (world, one, two) = world("3600")?;
    let host = world.host(1);
    ensure!(host.cli_json(&["plan"])? == serde_json::json!([]));
    ensure!(host.cli_ok(&["plan"])?.contains("as it should be"));
    ensure!(host.cli_ok(&["dump", "--diff"])?.trim().is_empty());
    let vni = vni_of(host, "blue")?;
    let mut fdb = fdb(host)?;
    let (there, strange) = (FdbKey::new(vni, two.mac), FdbKey::new(vni, one.mac));
    let theirs = fdb.get(&there, 0)?;
    fdb.remove(&there)?;
    let mine = fdb.get(&strange, 0)?;
    fdb.insert(strange, FdbValue { peer: 99, ..theirs }, 0)?;

    let plan = host.cli_json(&["plan"])?;
    ensure!(
        plan.as_array().is_some_and(|plan| plan.len() == 2),
        "{plan}"
    );
    let said = host.cli_ok(&["plan"])?;
    ensure!(said.contains("change") && said.contains("add"), "{said}");
    let diff = host.cli_ok(&["dump", "--diff"])?;
    for line in [
        format!("- FDB vni {vni} mac {}: peer 99", one.mac),
        format!(
            "+ FDB vni {vni} mac {}: interface {}",
            one.mac, mine.ifindex
        ),
        format!("+ FDB vni {vni} mac {}: peer {}", two.mac, theirs.peer),
    ] {
        ensure!(diff.contains(&line), "{line}: {diff}");
    }
    // Looking changes nothing.
    ensure!(host.cli_json(&["plan"])? == plan);
    Ok(())
}

#[test]
fn is_repaired_and_counted() -> Result<()> {
    let (world, one, two) = world("1")?;
    let host = world.host(1);
    let vni = vni_of(host, "blue")?;
    let mut fdb = fdb(host)?;
    let key = FdbKey::new(vni, two.mac);
    let before = fdb.get(&key, 0)?;
    fdb.remove(&key)?;
    until(CONVERGE, || fdb.get(&key, 0).context("not there"))?;
    ensure!(fdb.get(&key, 0)? == before);
    let repairs = "overlay_reconcile_repairs_total";
    until(CONVERGE, || {
        let repaired = count(host, repairs, &[("map", FDB)])?;
        ensure!(repaired == 1, "{repaired} repairs");
        Ok(())
    })?;
    reachable(&one, &two, 3)
}
