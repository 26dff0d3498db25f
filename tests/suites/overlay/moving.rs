//! An endpoint that goes to another host with its name, address and MAC.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::traffic::ping::ping;

use crate::support::{StoreKind, World, reachable};

/// From the moment that the endpoint is in its new place.
const FOLLOW: Duration = Duration::from_secs(1);

#[test]
fn traffic_follows_without_waiting_for_a_neighbour_timeout() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/24"])?;
    let near = world.container(1, "blue", "near")?;
    let far = world.container(2, "blue", "far")?;
    let mover = world.container(1, "blue", "mover")?;
    for from in [&near, &far] {
        reachable(from, &mover, 1)?;
    }
    let (ip, mac) = (mover.ip.to_string(), mover.mac.to_string());
    let options = ["--name", "mover", "--ip", &ip, "--mac", &mac];
    // Not removed before the endpoint has left them.
    let mut places = Vec::new();
    // There, and back again: from a local interface to a tunnel and the other way round.
    for (from, to) in [(1, 2), (2, 1)] {
        world.host(from).cli_ok(&["endpoint", "rm", "mover"])?;
        let place = world.host(to).container("place")?;
        tests::wait::until(crate::support::CONVERGE, || {
            world
                .host(to)
                .add_endpoint("blue", &place, &options)
                .map(drop)
        })?;
        let moved = Instant::now();
        for pinger in [&near, &far] {
            while ping(&pinger.netns, IpAddr::V4(mover.ip), 1)?.lost() != 0 {
                ensure!(
                    moved.elapsed() < FOLLOW,
                    "not reached {:?} after the move",
                    moved.elapsed()
                );
            }
        }
        ensure!(moved.elapsed() < FOLLOW, "{:?}", moved.elapsed());
        places.push(place);
    }
    Ok(())
}
