//! Tables: the fixture's, with entries taken away and changed.

use std::collections::BTreeMap;

use overlay_common::layout::{TunnelValue, tunnel_flags};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;

use crate::datapath::fixture;
use crate::datapath::world::World;

/// Half of the worlds are whole, the others lack or have changed some entries.
pub(super) fn any(rng: &mut StdRng) -> World {
    let mut world = fixture::world();
    if rng.random() {
        return world;
    }
    for _ in 0..rng.random_range(1..4) {
        match rng.random_range(0..8) {
            0 => take(rng, &mut world.fdb),
            1 => take(rng, &mut world.neighbors),
            2 => take(rng, &mut world.peers),
            3 => take(rng, &mut world.tunnels),
            4 => take(rng, &mut world.vnis),
            5 => take(rng, &mut world.endpoints),
            6 => {
                if let Some(tunnel) = world.tunnels.values_mut().choose(rng) {
                    change(rng, tunnel);
                }
            }
            _ => world.vtep.port = rng.random_range(1..0x1_0000),
        }
    }
    world
}

fn take<K: Ord + Copy, V>(rng: &mut StdRng, table: &mut BTreeMap<K, V>) {
    if let Some(key) = table.keys().copied().choose(rng) {
        table.remove(&key);
    }
}

fn change(rng: &mut StdRng, tunnel: &mut TunnelValue) {
    match rng.random_range(0..4) {
        0 => tunnel.header_len = 0,
        1 => tunnel.mtu = rng.random_range(576..10_000),
        // To a group.
        2 => tunnel.header[0] |= 1,
        _ => tunnel.flags ^= tunnel_flags::RESOLVED,
    }
}
