//! A next hop whose MAC is not known.

use anyhow::{Context as _, Result, ensure};
use tests::lab::{Host, UNDERLAY};
use tests::traffic::tcp::transfer;
use tests::wait::until;

use super::{CONVERGE, Pair};
use crate::support::{StoreKind, World, ask_neighbours_often, reachable};

/// The headers do without it, and the kernel resolves it for each frame: also with nobody there
/// who would write it into them.
#[test]
fn is_resolved_by_the_kernel() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    ask_neighbours_often(world.host(1).netns())?;
    world.start_agents(&[])?;
    let mut pair = Pair::on(world)?;
    let there = pair.world.host(2).netns();
    ensure!(knows_next_hop(pair.world.host(1))?);
    there.ip(&["link", "set", UNDERLAY, "arp", "off"])?;
    until(CONVERGE, || {
        ensure!(
            !knows_next_hop(pair.world.host(1))?,
            "a silent next hop is still used"
        );
        Ok(())
    })?;
    pair.world.host_mut(1).agent()?.kill9()?;
    let there = pair.world.host(2).netns();
    there.ip(&["link", "set", UNDERLAY, "arp", "on"])?;

    reachable(&pair.one, &pair.two, 10)?;
    transfer(
        &pair.one.netns,
        &pair.two.netns,
        pair.two.address(5001),
        16 << 20,
    )?
    .verify()?;
    ensure!(
        !knows_next_hop(pair.world.host(1))?,
        "the header was rewritten: nothing was tested"
    );
    let url = pair.world.store.url();
    pair.world.host_mut(1).start_agent(&url)?;
    until(CONVERGE, || {
        ensure!(knows_next_hop(pair.world.host(1))?, "still not resolved");
        Ok(())
    })?;
    reachable(&pair.one, &pair.two, 10)
}

/// Whether the headers to the other host carry its MAC.
fn knows_next_hop(host: &Host) -> Result<bool> {
    let dump = host.cli_json(&["dump"])?;
    let tunnels = dump["tunnels"].as_array().context("no tunnels")?;
    ensure!(tunnels.len() == 1, "tunnels: {tunnels:?}");
    Ok(!tunnels[0]["next_hop"].is_null())
}
