//! `--udp-checksum`: the outer UDP checksum is there and right, over both families.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice, UdpHeader};
use tests::capture::{Capture, frames};
use tests::lab::{Family, UNDERLAY};
use tests::open_vswitch::complete_packets;
use tests::traffic::tcp::transfer;

use super::{INSIDE, Pair, SUBNETS, fallbacks, no_drops};
use crate::support::World;
use crate::support::families::{V4, V6};

#[test]
fn over_ipv4() -> Result<()> {
    computed(V4)
}

#[test]
fn over_ipv6() -> Result<()> {
    computed(V6)
}

fn computed(underlay: &[Family]) -> Result<()> {
    let world = World::over_with(&[underlay; 2], &["--udp-checksum"])?;
    // As a wire would carry them.
    for n in [1, 2] {
        complete_packets(world.host(n).netns())?;
    }
    world.create_network("blue", SUBNETS)?;
    let netns = world.host(1).netns();
    let capture = Capture::bursts(netns, UNDERLAY, "udp dst port 4789", world.work.path())?;
    let pair = Pair::new(&world, [1, 2])?;
    for (from, to) in pair.ways() {
        for inside in INSIDE {
            let address = to.address_of(inside, 5001)?;
            transfer(&from.netns, &to.netns, address, 1 << 20)?.verify()?;
        }
    }
    let right = right_checksums(&capture.stop()?)?;
    ensure!(right > 500, "only {right} packets");
    for n in [1, 2] {
        no_drops(world.host(n))?;
        let slow = fallbacks(world.host(n))?;
        let causes: Vec<_> = slow.iter().map(|(way, cause, _)| (*way, *cause)).collect();
        ensure!(
            causes == [("tx", "checksum_wanted"), ("rx", "outer_checksum")],
            "host {n}: {slow:?}"
        );
    }
    Ok(())
}

/// How many packets there are; an error unless each has a checksum and it is right, by code that is
/// not ours.
fn right_checksums(file: &Path) -> Result<usize> {
    let packets = frames(file)?;
    for packet in &packets {
        let sliced = SlicedPacket::from_ethernet(packet).context("outer headers")?;
        let Some(TransportSlice::Udp(udp)) = sliced.transport else {
            anyhow::bail!("no UDP: {packet:02x?}");
        };
        let mut header: UdpHeader = udp.to_header();
        let found = std::mem::take(&mut header.checksum);
        let right = match sliced.net.context("no IP")? {
            NetSlice::Ipv4(ip) => {
                let (from, to) = (ip.header().source(), ip.header().destination());
                header.calc_checksum_ipv4_raw(from, to, udp.payload())?
            }
            NetSlice::Ipv6(ip) => {
                let (from, to) = (ip.header().source(), ip.header().destination());
                header.calc_checksum_ipv6_raw(from, to, udp.payload())?
            }
            other => anyhow::bail!("{other:?}"),
        };
        ensure!(found != 0, "no checksum: {packet:02x?}");
        ensure!(
            found == right,
            "{found:04x} instead of {right:04x}: {packet:02x?}"
        );
    }
    Ok(packets.len())
}
