//! Hosts that have IPv6 and nothing else.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::capture::{Capture, fields};
use tests::lab::{Family, UNDERLAY};
use tests::metrics::snmp;
use tests::traffic::ping::ping_with;
use tests::traffic::tcp::transfer;
use tests::traffic::udp::{self, UdpCounter};
use tests::wait::until;

use super::{INSIDE, Pair, SUBNETS, fallbacks, no_drops};
use crate::support::datagrams::{Receiver, send_segmented};
use crate::support::families::V6;
use crate::support::{CONVERGE, World, count, network};

const BYTES: u64 = 64 << 20;

#[test]
fn over_ipv6_alone() -> Result<()> {
    let world = World::over(&[V6, V6])?;
    world.create_network("blue", SUBNETS)?;
    for n in [1, 2] {
        let host = world.host(n);
        ensure!(network(host, "blue")?["mtu"] == 1430);
        let addresses = host.netns().ip(&["-4", "addr", "show", "dev", UNDERLAY])?;
        ensure!(addresses.is_empty(), "{addresses}");
    }
    let work = world.work.path();
    let capture = Capture::bursts(world.host(1).netns(), UNDERLAY, "udp dst port 4789", work)?;
    let pair = Pair::new(&world, [1, 2])?;
    one_by_one(&pair)?;
    on_the_wire(&capture.stop()?)?;
    full_packets(&pair)?;

    for (from, to) in pair.ways() {
        for inside in INSIDE {
            let address = to.address_of(inside, 5001)?;
            transfer(&from.netns, &to.netns, address, BYTES)
                .and_then(|transfer| transfer.verify())
                .with_context(|| format!("to {address}"))?;
        }
    }
    // All of it by the fast path, and super-packets too; that the kernel has filled in the next hop's MAC
    // says when it was found.
    for n in [1, 2] {
        let slow = fallbacks(world.host(n))?;
        let only = slow.iter().all(|(_, cause, _)| *cause == "no_neighbor");
        ensure!(only, "host {n}: {slow:?}");
    }
    aggregates(&world, &pair)?;
    for n in [1, 2] {
        no_drops(world.host(n))?;
        let slow = fallbacks(world.host(n))?;
        let only = slow
            .iter()
            .all(|(_, cause, _)| ["inner_aggregate", "oversize", "no_neighbor"].contains(cause));
        ensure!(only, "host {n}: {slow:?}");
    }
    Ok(())
}

/// Datagrams of several flows, none of them lost.
fn one_by_one(pair: &Pair) -> Result<()> {
    const EACH: u64 = 20;
    for (from, to) in pair.ways() {
        for inside in INSIDE {
            for port in 6000..6008 {
                let address = to.address_of(inside, port)?;
                let counter = UdpCounter::start(&to.netns, address, None)?;
                udp::send(&from.netns, address, 1000, EACH, Duration::ZERO)?;
                until(CONVERGE, || {
                    let received = counter.received();
                    ensure!(received == EACH, "{received} of {EACH} for {address}");
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

/// To the byte: 1430 of the underlay's 1500.
fn full_packets(pair: &Pair) -> Result<()> {
    for (from, to) in pair.ways() {
        for (inside, payload) in [(Family::V4, "1402"), (Family::V6, "1382")] {
            let address = to.address_of(inside, 0)?.ip();
            let summary = ping_with(&from.netns, address, 5, &["-M", "do", "-s", payload])?;
            ensure!(
                summary.sent == 5 && summary.lost() == 0,
                "{address}: {summary:?}"
            );
        }
    }
    Ok(())
}

/// Aggregates are cut into the datagrams that they were made of, whoever does it.
fn aggregates(world: &World, pair: &Pair) -> Result<()> {
    let packets = |n: usize, direction| {
        let labels = [("direction", direction)];
        count(world.host(n), "overlay_vni_packets_total", &labels)
    };
    for ((from, to), [here, there]) in pair.ways().into_iter().zip([[1, 2], [2, 1]]) {
        for inside in INSIDE {
            for (segment, length) in [
                (1300, 40 * 1300),
                (700, 1400),
                (1000, 30_001),
                (1370, 65_400),
            ] {
                let address = to.address_of(inside, 7100)?;
                let what = format!("{length} bytes to {address} in segments of {segment}");
                let receiver = Receiver::bind(&to.netns, address)?;
                let before = (packets(here, "tx")?, packets(there, "rx")?);
                let errors = checksum_errors(to, inside)?;
                let sent = send_segmented(&from.netns, address, segment, 10, length)?;
                let number = sent.len() as u64;
                receiver.expect(sent).with_context(|| what.clone())?;
                until(CONVERGE, || {
                    let after = (
                        packets(here, "tx")? - before.0,
                        packets(there, "rx")? - before.1,
                    );
                    ensure!(
                        after == (number, number),
                        "{what}: {after:?} counted of {number}"
                    );
                    Ok(())
                })?;
                ensure!(checksum_errors(to, inside)? == errors, "{what}: checksums");
            }
        }
    }
    Ok(())
}

fn checksum_errors(of: &crate::support::Container, inside: Family) -> Result<u64> {
    match inside {
        Family::V4 => snmp(&of.netns, "Udp", "InCsumErrors"),
        Family::V6 => {
            let text = of
                .netns
                .run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp6")?))?;
            let line = text
                .lines()
                .find(|line| line.starts_with("Udp6InCsumErrors"));
            let value = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(value.context("Udp6InCsumErrors")?.parse()?)
        }
    }
}

/// A dissector that is not ours finds well-formed VXLAN over IPv6, without a UDP checksum.
fn on_the_wire(file: &Path) -> Result<()> {
    let columns = [
        "ipv6.version",
        "ipv6.hlim",
        "udp.checksum",
        "vxlan.flags",
        // Not whether anything is malformed: a random port inside may be that of some protocol.
        "frame.protocols",
        "udp.srcport",
    ];
    let frames = fields(file, "udp.dstport == 4789", &columns)?;
    ensure!(frames.len() > 600, "only {} frames", frames.len());
    for frame in &frames {
        let wanted = ["6", "64", "0x0000", "0x0800"];
        ensure!(frame[..4] == wanted, "{frame:?}");
        let inside = frame[4].strip_prefix("eth:ethertype:ipv6:udp:vxlan:eth:ethertype:");
        ensure!(
            inside.is_some_and(|inside| inside.starts_with("ip")),
            "{frame:?}"
        );
        let port: u16 = frame[5].parse().context("source port")?;
        ensure!(port >= 49152, "source port {port}");
    }
    // Flows have ports of their own.
    let mut ports: Vec<_> = frames.iter().map(|frame| &frame[5]).collect();
    ports.sort_unstable();
    ports.dedup();
    ensure!(ports.len() >= 24, "{} source ports", ports.len());
    let legacy = fields(file, "!ipv6", &["frame.number"])?;
    ensure!(legacy.is_empty(), "{} frames over IPv4", legacy.len());
    Ok(())
}
