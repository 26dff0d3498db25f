//! Ten kinds of traffic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tests::traffic::ping::ping;
use tests::traffic::tcp::transfer;
use tests::traffic::udp::{self, UdpCounter};
use tests::wait::until;

use super::{Bench, End, Flow};
use crate::support::{CONVERGE, send_raw};

pub(super) const LINUX: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 50);
pub(super) const LINUX_MAC: &str = "02:00:0a:09:00:32";

/// Of [`six`].
pub(super) const SIX_MACS: [&str; 2] = ["02:00:00:00:09:01", "02:00:00:00:09:02"];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
/// For local experiments (IEEE 802).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
/// Expedited forwarding, ECT(0).
const MARK: u8 = 0xba;

const TCP_BYTES: u64 = 300_000;

pub(super) fn six(n: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 0x10 + n as u16)
}

pub(super) const ALL: [Flow; 10] = [
    Flow {
        name: "ICMP echo",
        select: |frame| v4(frame) == Some((ICMP, false, 0)),
        run: |bench| all_answered(&bench.one, address(&bench.two)?),
        ends: blue,
        least: [10, 10],
    },
    Flow {
        name: "TCP, handshake and data",
        select: |frame| v4(frame) == Some((TCP, false, 0)),
        run: |bench| {
            let to = SocketAddr::new(address(&bench.two)?, 5001);
            transfer(&bench.one.netns, &bench.two.netns, to, TCP_BYTES)?.verify()
        },
        ends: blue,
        least: [TCP_BYTES as usize / 1400, 3],
    },
    Flow {
        name: "UDP",
        select: |frame| v4(frame) == Some((UDP, false, 0)),
        run: |bench| datagrams(bench, 0, 700),
        ends: blue,
        least: [20, 0],
    },
    Flow {
        name: "UDP in fragments",
        select: |frame| matches!(v4(frame), Some((UDP, true, 0))),
        run: |bench| datagrams(bench, 0, 5000),
        ends: blue,
        least: [80, 0],
    },
    Flow {
        name: "SCTP",
        select: |frame| matches!(v4(frame), Some((SCTP, false, 0))),
        run: sctp,
        ends: blue,
        least: [1, 0],
    },
    Flow {
        name: "ICMPv6 echo",
        // Requests and answers; neighbours may be asked or not.
        select: |frame| v6(frame) == Some(ICMPV6) && matches!(frame.get(54), Some(128 | 129)),
        run: |bench| all_answered(&bench.six_one, six(2).into()),
        ends: |bench| [&bench.six_one, &bench.six_two],
        least: [10, 10],
    },
    Flow {
        name: "TCP over IPv6",
        select: |frame| v6(frame) == Some(TCP),
        run: |bench| {
            let to = SocketAddr::new(six(2).into(), 5001);
            transfer(&bench.six_one.netns, &bench.six_two.netns, to, TCP_BYTES)?.verify()
        },
        ends: |bench| [&bench.six_one, &bench.six_two],
        least: [TCP_BYTES as usize / 1400, 3],
    },
    Flow {
        name: "ARP reply to a Linux peer",
        // The request is a broadcast, which is not sent to a MAC.
        select: |frame| frame[12..14] == [0x08, 0x06] && frame.get(21) == Some(&2),
        run: |bench| all_answered(&bench.linux, address(&bench.one)?),
        ends: |bench| [&bench.one, &bench.linux],
        least: [1, 0],
    },
    Flow {
        name: "neither IP nor ARP",
        select: |frame| frame[12..14] == EXPERIMENT,
        run: |bench| {
            for (from, to) in [(&bench.one, &bench.two), (&bench.two, &bench.one)] {
                for length in [1, 46, 1400] {
                    let mut frame = [&to.mac.0[..], &from.mac.0, &EXPERIMENT].concat();
                    frame.resize(14 + length, 0xa5);
                    send_raw(&from.netns, &frame)?;
                }
            }
            Ok(())
        },
        ends: blue,
        least: [3, 3],
    },
    Flow {
        name: "DSCP and ECN marked",
        select: |frame| v4(frame) == Some((UDP, false, MARK)),
        run: |bench| datagrams(bench, MARK, 600),
        ends: blue,
        least: [20, 0],
    },
];

fn blue(bench: &Bench) -> [&End; 2] {
    [&bench.one, &bench.two]
}

/// Protocol, whether it is a fragment, traffic class.
fn v4(frame: &[u8]) -> Option<(u8, bool, u8)> {
    let ip = frame.get(14..34)?;
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
    (frame[12..14] == [0x08, 0x00]).then_some((ip[9], fragment, ip[1]))
}

/// Next header.
fn v6(frame: &[u8]) -> Option<u8> {
    (frame[12..14] == [0x86, 0xdd]).then_some(*frame.get(20)?)
}

fn address(end: &End) -> Result<IpAddr> {
    Ok(end.netns.ipv4("eth0")?.into())
}

fn all_answered(from: &End, to: IpAddr) -> Result<()> {
    until(CONVERGE, || {
        ensure!(ping(&from.netns, to, 1)?.lost() == 0, "no answer from {to}");
        Ok(())
    })?;
    let summary = ping(&from.netns, to, 10)?;
    ensure!(summary.sent == 10 && summary.lost() == 0, "{summary:?}");
    Ok(())
}

/// 20 datagrams, counted where they arrive.
fn datagrams(bench: &Bench, mark: u8, length: usize) -> Result<()> {
    const COUNT: u64 = 20;
    let to = SocketAddr::new(address(&bench.two)?, 7001);
    let counter = UdpCounter::start(&bench.two.netns, to, None)?;
    if mark == 0 {
        udp::send(&bench.one.netns, to, length, COUNT, Duration::ZERO)?;
    } else {
        let socket = bench.one.netns.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        setsockopt(&socket, sockopt::Ipv4Tos, &mark.into()).context("IP_TOS")?;
        for _ in 0..COUNT {
            socket.send_to(&vec![0x5a; length], to)?;
        }
    }
    until(CONVERGE, || {
        ensure!(
            counter.received() == COUNT,
            "{} arrived",
            counter.received()
        );
        Ok(())
    })?;
    ensure!(counter.stop()? == COUNT, "more than {COUNT} arrived");
    Ok(())
}

/// This kernel has no SCTP: the packet is made by hand, and nobody answers.
fn sctp(bench: &Bench) -> Result<()> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (address(&bench.one)?, address(&bench.two)?) else {
        anyhow::bail!("IPv4 addresses");
    };
    // Ports, tag, checksum; an INIT chunk of 20 bytes (RFC 9260, section 3.3.2).
    let mut packet = vec![0x13, 0x88, 0x13, 0x89, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef];
    packet.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(bench.one.mac.0, bench.two.mac.0)
        .ipv4(from.octets(), to.octets(), 64)
        .write(&mut frame, etherparse::IpNumber::SCTP, &packet)
        .context("build SCTP")?;
    send_raw(&bench.one.netns, &frame)
}
