//! The outer headers that `from_endpoint` makes: both families, traffic class, checksums wanted.

use overlay_common::Direction::Tx;
use overlay_common::FallbackCause;
use overlay_common::layout::tunnel_flags;
use overlay_common::maps::FROM_ENDPOINT;

use super::case::REDIRECT;
use super::fixture::{
    A, B, E, NEXT_HOP, PEER4_IP, PORT, Programs, SOURCE_MAC, VNI, VTEP_IP, fell_back, sent, v6,
};
use super::frames::{Over, tcp, udp, udp6};

#[test]
fn encapsulates_over_ipv6() {
    for (what, inner) in [
        ("UDP", udp(A, E, 100)),
        ("TCP", tcp(A, E, 1)),
        ("IPv6", udp6(A, E)),
        ("the largest that fits", udp(A, E, 1500 - 56 - 42)),
    ] {
        let programs = Programs::load();
        let run = programs.classify(FROM_ENDPOINT, &inner, 0);
        assert_eq!(run.verdict, REDIRECT, "{what}");
        assert_eq!(programs.counters(), sent(4, inner.len()), "{what}");
        let port = u16::from_be_bytes([run.frame[54], run.frame[55]]);
        assert!(port >= 49152, "{what}: source port {port}");
        let mut payload = vec![8, 0, 0, 0];
        payload.extend((VNI << 8).to_be_bytes());
        payload.extend(&inner);
        let mut expected = Vec::new();
        etherparse::PacketBuilder::ethernet2(SOURCE_MAC.0, NEXT_HOP.0)
            .ipv6(v6(VTEP_IP), v6(PEER4_IP), 64)
            .udp(port, PORT)
            .write(&mut expected, &payload)
            .unwrap();
        // RFC 6935: a tunnel may leave the UDP checksum zero.
        expected[60..62].fill(0);
        assert_eq!(run.frame, expected, "{what}");
    }
}

/// The outer traffic class of a packet to the peer over that family.
fn traffic_class(programs: &Programs, over: Over, inner: Over, tos: u8) -> u8 {
    let to = match over {
        Over::V4 => B,
        Over::V6 => E,
    };
    let frame = match inner {
        Over::V4 => {
            let mut frame = udp(A, to, 10);
            frame[15] = tos;
            frame
        }
        Over::V6 => {
            let mut frame = udp6(A, to);
            frame[14] |= tos >> 4;
            frame[15] |= tos << 4;
            frame
        }
    };
    let run = programs.classify(FROM_ENDPOINT, &frame, 0);
    assert_eq!(run.verdict, REDIRECT);
    assert_eq!(run.frame.len(), over.len() + frame.len());
    let ip = etherparse::SlicedPacket::from_ethernet(&run.frame)
        .unwrap()
        .net;
    match ip {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            ip.dscp.value() << 2 | ip.ecn.value()
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => ip.header().traffic_class(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn traffic_class_is_fixed_or_copied_and_ecn_always_copied() {
    let mut programs = Programs::load();
    for over in Over::BOTH {
        let peer = match over {
            Over::V4 => 1,
            Over::V6 => 4,
        };
        for inner in Over::BOTH {
            for ecn in 0..4 {
                assert_eq!(traffic_class(&programs, over, inner, 0xb8 | ecn), ecn);
            }
            programs.change_tunnel(peer, |tunnel| tunnel.flags |= tunnel_flags::COPY_DSCP);
            for tos in [0, 0x2a, 0xb9, 0xff] {
                assert_eq!(traffic_class(&programs, over, inner, tos), tos);
            }
            programs.change_tunnel(peer, |tunnel| tunnel.flags &= !tunnel_flags::COPY_DSCP);
        }
    }
}

#[test]
fn wanted_checksums_are_the_kernels() {
    for (peer, to) in [(1, B), (4, E)] {
        let mut programs = Programs::load();
        programs.change_tunnel(peer, |tunnel| tunnel.flags |= tunnel_flags::UDP_CHECKSUM);
        let frame = udp(A, to, 100);
        let run = programs.classify(FROM_ENDPOINT, &frame, 0);
        assert_eq!((run.verdict, run.frame), (REDIRECT, frame.clone()));
        let mut expected = fell_back(Tx, FallbackCause::ChecksumWanted);
        expected.extend(sent(peer as usize, frame.len()));
        assert_eq!(programs.counters(), expected);
    }
}
