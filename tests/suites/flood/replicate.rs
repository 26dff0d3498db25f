//! Many peers, and a bounded rate.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use overlay_common::net::MacAddr;
use tests::capture::{Capture, fields};
use tests::lab::UNDERLAY;
use tests::wait::until;

use super::{Listener, ethernet, reaches_each_once};
use crate::support::{CONVERGE, PacketSocket, StoreKind, World, send_raw};

const PEERS: usize = 128;

#[test]
fn to_128_peers() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    // One machine that has the addresses of all the peers.
    let sink = world.lab.station("sink")?;
    world.create_network(
        "blue",
        &["--subnet", "10.42.0.0/16", "--flood", "replicate"],
    )?;
    let sender = world.container(1, "blue", "sender")?;
    let far = Listener::new(world.container(2, "blue", "far")?)?;
    let host = world.host(1);
    let mut addresses = BTreeSet::new();
    for n in 0..PEERS {
        let ip = format!("192.0.2.{}", 100 + n);
        sink.netns
            .ip(&["addr", "add", &format!("{ip}/24"), "dev", UNDERLAY])?;
        let name = format!("peer{n}");
        host.cli_ok(&["node", "add", &name, "--vtep", &ip])?;
        let (inner, mac) = (format!("10.42.9.{n}"), format!("02:00:00:00:09:{n:02x}"));
        let by_hand = ["--network", "blue", "--ip", &inner, "--mac", &mac];
        host.cli_ok(&[&["endpoint", "add", "--node", &name][..], &by_hand].concat())?;
        addresses.insert(ip);
    }
    let frame = ethernet(sender.mac, MacAddr::BROADCAST, b"to all");
    // All of them are known, and the kernel has found their neighbours.
    until(CONVERGE, || {
        reaches_each_once(&sender, &frame, &[&far])?;
        let metrics = host.metrics()?;
        for n in 0..PEERS {
            let labels = [("peer", &*format!("peer{n}")), ("direction", "tx")];
            let sent = metrics.sum("overlay_peer_packets_total", &labels)?;
            ensure!(sent.is_some_and(|sent| sent > 0.0), "nothing for peer {n}");
        }
        Ok(())
    })?;
    let work = world.work.path();
    let capture = Capture::bursts(&sink.netns, UNDERLAY, "udp dst port 4789", work)?;
    let last = ethernet(sender.mac, MacAddr::BROADCAST, b"once");
    reaches_each_once(&sender, &last, &[&far])?;
    // tcpdump is given the time to read what has arrived.
    until(CONVERGE, || {
        let reached = receivers(&work.join("packets.pcap"))?.len();
        ensure!(reached >= PEERS, "{reached} copies for {PEERS} peers");
        Ok(())
    })?;
    let rows = receivers(&capture.stop()?)?;
    let reached: BTreeSet<String> = rows.iter().cloned().collect();
    ensure!(
        reached == addresses && rows.len() == PEERS,
        "{} copies for {} of {PEERS} peers",
        rows.len(),
        reached.len()
    );
    Ok(())
}

/// Where each copy of the last frame went.
fn receivers(file: &Path) -> Result<Vec<String>> {
    let rows = fields(file, "frame contains \"once\"", &["ip.dst"])?;
    Ok(rows.into_iter().flatten().collect())
}

#[test]
fn rate_is_bounded_and_counted() -> Result<()> {
    const FRAMES: u64 = 3000;
    let world = World::new(StoreKind::Embedded)?;
    world.create_network(
        "blue",
        &["--subnet", "10.42.0.0/24", "--flood", "replicate"],
    )?;
    let sender = world.container(1, "blue", "sender")?;
    let near = Listener::new(world.container(1, "blue", "near")?)?;
    let warm = ethernet(sender.mac, MacAddr::BROADCAST, b"first");
    reaches_each_once(&sender, &warm, &[&near])?;

    let dropped = || -> Result<u64> {
        let labels = [
            ("reason", "flood_rate"),
            ("network", "blue"),
            ("direction", "tx"),
        ];
        let metrics = world.host(1).metrics()?;
        Ok(metrics
            .sum("overlay_vni_drops_total", &labels)?
            .unwrap_or(0.0) as u64)
    };
    let before = dropped()?;
    let frame = ethernet(sender.mac, MacAddr::BROADCAST, b"too many");
    let started = Instant::now();
    sender.netns.run(|| {
        let socket = PacketSocket::open(0)?;
        (0..FRAMES).try_for_each(|_| socket.send(&frame))
    })?;
    let elapsed = started.elapsed();
    let heard = near.heard(&frame, &sender)? as u64;
    let dropped = dropped()? - before;
    ensure!(
        heard + dropped == FRAMES,
        "{heard} arrived and {dropped} were dropped of {FRAMES}"
    );
    // 1000 a second, of which a tenth at once, and a frame for each processor.
    let bound = 100 + elapsed.as_millis() as u64 + 2;
    ensure!(heard <= bound, "{heard} of {FRAMES} within {elapsed:?}");
    ensure!(heard >= 100, "only {heard} arrived");
    send_raw(&sender.netns, &warm).context("send once more")
}
