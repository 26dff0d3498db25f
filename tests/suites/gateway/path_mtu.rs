//! A container that believes in a larger MTU than the tunnel has learns the right one.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use tests::capture::{Capture, fields};
use tests::lab::UNDERLAY;
use tests::netns::Netns;
use tests::open_vswitch::complete_packets;
use tests::traffic::tcp::transfer;
use tests::wait::until;

use super::{Subnets, address, reaches, says};
use crate::support::{CONVERGE, count};

fn believes_in(mtu: u32, netns: &Netns) -> Result<()> {
    netns.ip(&["link", "set", "eth0", "mtu", &mtu.to_string()])?;
    Ok(())
}

/// The path MTU that the container's kernel has learnt; `None` for none.
fn learnt(netns: &Netns, to: IpAddr) -> Result<Option<u32>> {
    let route = netns.ip(&["-o", "route", "get", &to.to_string()])?;
    let mut words = route.split_whitespace();
    let mtu = words.find(|word| *word == "mtu").and_then(|_| words.next());
    Ok(mtu.map(str::parse).transpose()?)
}

#[test]
fn is_learnt() -> Result<()> {
    let network = Subnets::new()?;
    let here = network.end(1, 8, 11)?;
    let near = network.end(2, 8, 12)?;
    let far = network.end(2, 9, 13)?;
    believes_in(9000, &here.netns)?;
    for to in [&near, &far] {
        for ip in to.ips() {
            reaches(&here.netns, ip)?;
            ensure!(learnt(&here.netns, ip)?.is_none(), "{ip} before");
            let said = says(&here.netns, ip, &["-M", "do", "-s", "4000"])?;
            ensure!(
                said.contains("mtu = 1450") || said.contains("mtu=1450"),
                "{ip}: {said}"
            );
            ensure!(
                said.contains("From 10.8.0.1") || said.contains("From fd00:8::1"),
                "{said}"
            );
            ensure!(
                learnt(&here.netns, ip)? == Some(1450),
                "{ip}: {:?}",
                learnt(&here.netns, ip)?
            );
        }
    }
    Ok(())
}

/// Also super-packets: TCP starts with segments that do not fit, and goes on with those that do.
#[test]
fn tcp_goes_on_with_what_fits() -> Result<()> {
    let network = Subnets::new()?;
    let here = network.end(1, 8, 11)?;
    let there = network.end(2, 9, 13)?;
    // Both ends: else the segment size that the other end announces fits.
    believes_in(9000, &here.netns)?;
    believes_in(9000, &there.netns)?;
    let host = network.world.host(1);
    // A super-packet is cut before it is recorded, as it is for a wire.
    complete_packets(host.netns())?;
    let longer = "udp dst port 4789 and greater 1515";
    let work = network.world.work.path();
    let capture = Capture::headers(host.netns(), UNDERLAY, longer, work)?;
    for ip in there.ips() {
        reaches(&here.netns, ip)?;
        let drops = || count(host, "overlay_vni_drops_total", &[("reason", "too_big")]);
        let before = drops()?;
        transfer(&here.netns, &there.netns, address(ip), 32 << 20)?.verify()?;
        until(CONVERGE, || {
            ensure!(drops()? > before, "nothing was too big");
            Ok(())
        })?;
        ensure!(learnt(&here.netns, ip)? == Some(1450), "{ip}");
    }
    let sent = fields(&capture.stop()?, "", &["frame.len"])?;
    ensure!(sent.is_empty(), "longer than the underlay takes: {sent:?}");
    Ok(())
}
