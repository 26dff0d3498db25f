//! A Linux host as the other side, by what is inside the tunnel.

use anyhow::{Context as _, Result, ensure};
use tests::lab::Family;
use tests::traffic::tcp::transfer;
use tests::wait::until;

use super::senders::{Mixed, zero_checksums};
use crate::support::families::answers;
use crate::support::nested::nest;
use crate::support::{CONVERGE, PacketSocket};

const BYTES: u64 = 16 << 20;
/// For local experiments (IEEE 802).
const ETHERTYPE: u16 = 0x88b5;

#[test]
fn over_ipv4() -> Result<()> {
    over(Family::V4)
}

#[test]
fn over_ipv6() -> Result<()> {
    over(Family::V6)
}

fn over(underlay: Family) -> Result<()> {
    let mixed = Mixed::new(underlay, zero_checksums(underlay), None)?;
    either_family(&mixed)?;
    no_ip(&mixed)?;
    a_tunnel(&mixed)
}

/// IPv4 and IPv6, of which one is not the underlay's: both by the fast path.
fn either_family(mixed: &Mixed) -> Result<()> {
    let causes = ["inner_not_ip", "inner_aggregate", "room_refused"];
    let before = causes.map(|cause| mixed.received(cause));
    let (ours, theirs) = (&mixed.ours, &mixed.theirs);
    for (from, to) in [(theirs, ours), (ours, theirs)] {
        for inside in [Family::V4, Family::V6] {
            let address = to.address_of(inside, 5001)?;
            answers(&from.netns, address.ip())?;
            transfer(&from.netns, &to.netns, address, BYTES)
                .and_then(|transfer| transfer.verify())
                .with_context(|| format!("to {address}"))?;
        }
    }
    for (cause, before) in causes.into_iter().zip(before) {
        let counted = mixed.received(cause)? - before?;
        // A neighbour's address is asked for by ARP.
        let most = if cause == "inner_not_ip" { 4 } else { 0 };
        ensure!(counted <= most, "{cause}: {counted}");
    }
    Ok(())
}

fn no_ip(mixed: &Mixed) -> Result<()> {
    const FRAMES: u8 = 20;
    let (ours, theirs) = (&mixed.ours, &mixed.theirs);
    for (from, to) in [(theirs, ours), (ours, theirs)] {
        let receiver = to.netns.run(|| PacketSocket::open(ETHERTYPE))?;
        let before = mixed.received("inner_not_ip")?;
        for n in 0..FRAMES {
            let mut frame = [to.mac.0, from.mac.0].concat();
            frame.extend(ETHERTYPE.to_be_bytes());
            frame.resize(60 + usize::from(n) * 60, n);
            crate::support::send_raw(&from.netns, &frame)?;
            let arrived = until(CONVERGE, || receiver.receive()?.context("did not arrive"))?;
            ensure!(arrived == frame, "frame {n} arrived as {arrived:02x?}");
        }
        ensure!(receiver.receive()?.is_none(), "a frame arrived twice");
        let counted = mixed.received("inner_not_ip")? - before;
        let is_to_us = to.mac == ours.mac;
        ensure!(
            !is_to_us || counted >= FRAMES.into(),
            "{counted} of {FRAMES} counted"
        );
    }
    Ok(())
}

/// Between the two containers, with super-packets in it.
fn a_tunnel(mixed: &Mixed) -> Result<()> {
    let (ours, theirs) = (&mixed.ours, &mixed.theirs);
    nest(ours, theirs, "10.99.0.1/24", "1370")?;
    nest(theirs, ours, "10.99.0.2/24", "1370")?;
    for (from, to, ip) in [(theirs, ours, "10.99.0.1"), (ours, theirs, "10.99.0.2")] {
        answers(&from.netns, ip.parse()?)?;
        let address = (ip.parse::<std::net::IpAddr>()?, 5001).into();
        transfer(&from.netns, &to.netns, address, BYTES)?.verify()?;
    }
    Ok(())
}
