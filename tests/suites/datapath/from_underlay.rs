//! `from_underlay`, decapsulation at TC ingress.

use overlay_common::Direction::Rx;
use overlay_common::maps::FROM_UNDERLAY;
use overlay_common::net::MacAddr;
use overlay_common::{DropReason, FallbackCause};

use super::case::{Case, NEXT, REDIRECT, SHOT, check};
use super::fixture::{
    A, A_IP, A2, A2_IP6, B, B_IP, B_IP6, C, Counters, OTHER_VNI, PEER2_IP, VNI, VTEP_IP, dropped,
    fell_back, received,
};
use super::frames::{
    Tunnelled, arp, ethernet, fix_ip_checksum, link_layer, nd, solicited_node, tcp, udp, udp6,
};

fn run(cases: Vec<Case>) {
    check(cases, |programs, case| {
        programs.classify(FROM_UNDERLAY, &case.frame, case.gso_size)
    });
}

fn with_inner(inner: Vec<u8>) -> Vec<u8> {
    Tunnelled {
        inner,
        ..Tunnelled::default()
    }
    .build()
}

fn changed(at: usize, value: u8) -> Vec<u8> {
    let mut frame = Tunnelled::default().build();
    frame[at] = value;
    fix_ip_checksum(&mut frame);
    frame
}

/// B's question who has `target`.
fn solicitation(target: [u8; 16]) -> Vec<u8> {
    let group = MacAddr([0x33, 0x33, 0xff, target[13], target[14], target[15]]);
    let rest = [&target[..], &link_layer(1, B)].concat();
    nd([B, group], [B_IP6, solicited_node(target)], 135, 0, &rest)
}

#[test]
fn delivers() {
    let deliver = |what, tunnelled: Tunnelled| {
        let inner = tunnelled.inner.clone();
        let counters = received(1, inner.len());
        Case::new(what, tunnelled.build(), REDIRECT, counters).leaving(inner)
    };
    let inner = |inner| Tunnelled {
        inner,
        ..Tunnelled::default()
    };
    run(vec![
        deliver("UDP", inner(udp(B, A, 100))),
        deliver("TCP", inner(tcp(B, A, 1))),
        deliver("to the other endpoint here", inner(udp(B, A2, 100))),
        deliver("the smallest IPv4 packet", inner(udp(B, A, 0))),
        deliver(
            "reserved bits set (RFC 7348: ignored on receipt)",
            Tunnelled {
                flags: 0xff,
                ..Tunnelled::default()
            },
        ),
        deliver(
            "ECN-capable outer header without congestion",
            Tunnelled {
                tos: 2,
                ..Tunnelled::default()
            },
        ),
        deliver("IPv6 inside", inner(udp6(B, A))),
        deliver(
            "a question of everybody who A2 is",
            inner(solicitation(A2_IP6)),
        ),
    ]);
}

#[test]
fn leaves_foreign_traffic_alone() {
    let next = |what, frame| Case::new(what, frame, NEXT, Counters::new());
    let mut other_host = Tunnelled::default().build();
    other_host[0] = 2;
    run(vec![
        next("plain traffic", udp(B, MacAddr([0; 6]), 100)),
        next("ARP", arp(B, MacAddr([0; 6]), 1, [1; 4], [2; 4])),
        next(
            "another address",
            Tunnelled {
                destination: [192, 0, 2, 9],
                ..Tunnelled::default()
            }
            .build(),
        ),
        next(
            "another port",
            Tunnelled {
                port: 8472,
                ..Tunnelled::default()
            }
            .build(),
        ),
        next("a later fragment", changed(21, 0x10)),
        next("TCP", changed(23, 6)),
        next("for another MAC (PACKET_OTHERHOST)", other_host),
    ]);
}

#[test]
fn leaves_to_the_kernel_what_it_would_get_wrong() {
    let fallback = |what, frame, cause| Case::new(what, frame, NEXT, fell_back(Rx, cause));
    let mut options = Tunnelled::default().build();
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 1]);
    let total = (options.len() - 14) as u16;
    options[16..18].copy_from_slice(&total.to_be_bytes());
    fix_ip_checksum(&mut options);
    let mut trailer = Tunnelled::default().build();
    trailer.push(0);
    let mut short_udp = Tunnelled::default().build();
    short_udp[39] -= 1;

    run(vec![
        fallback(
            "first fragment",
            changed(20, 0x20),
            FallbackCause::OuterFragment,
        ),
        fallback("IP options", options, FallbackCause::OuterOptions),
        fallback(
            "UDP checksum in use",
            Tunnelled {
                checksum: 0x1234,
                ..Tunnelled::default()
            }
            .build(),
            FallbackCause::OuterChecksum,
        ),
        // Here an aggregate has no segmentation type, which `adjust_room` refuses.
        fallback(
            "aggregate of a kind that the kernel refuses to change",
            with_inner(tcp(B, A, 1000)),
            FallbackCause::RoomRefused,
        )
        .aggregate(500),
        fallback("trailing byte", trailer, FallbackCause::OuterLength),
        fallback("UDP length differs", short_udp, FallbackCause::OuterLength),
        fallback(
            "inner ARP",
            with_inner(arp(B, A, 2, B_IP, A_IP)),
            FallbackCause::InnerNotIp,
        ),
        fallback(
            "inner ARP by broadcast",
            with_inner(arp(B, MacAddr::BROADCAST, 1, B_IP, A_IP)),
            FallbackCause::InnerNotIp,
        ),
        fallback(
            "inner frame of another ethertype",
            with_inner(ethernet(B, A, 0x88b5, &[0; 46])),
            FallbackCause::InnerNotIp,
        ),
        fallback(
            "inner IPv4 shorter than its header",
            with_inner(ethernet(B, A, 0x0800, &[0x45; 19])),
            FallbackCause::InnerNotIp,
        ),
        fallback(
            "aggregate of inner UDP",
            with_inner(udp(B, A, 1000)),
            FallbackCause::InnerAggregate,
        )
        .aggregate(500),
    ]);
}

#[test]
fn drops() {
    let drop = |what, frame, vni, peer, reason| {
        Case::new(what, frame, SHOT, dropped(vni, peer, Rx, reason))
    };
    let mut bad_checksum = Tunnelled::default().build();
    bad_checksum[25] ^= 1;
    let good = Tunnelled::default().build();
    run(vec![
        drop(
            "bad IP checksum",
            bad_checksum,
            0,
            0,
            DropReason::OuterChecksum,
        ),
        drop(
            "cut short",
            good[..good.len() - 1].to_vec(),
            0,
            0,
            DropReason::Truncated,
        ),
        drop(
            "no whole inner Ethernet header",
            with_inner(vec![0; 13]),
            0,
            0,
            DropReason::Truncated,
        ),
        drop(
            "I flag clear",
            Tunnelled {
                flags: 0,
                ..Tunnelled::default()
            }
            .build(),
            0,
            0,
            DropReason::NoVni,
        ),
        drop(
            "VNI 0",
            Tunnelled {
                vni: 0,
                ..Tunnelled::default()
            }
            .build(),
            0,
            0,
            DropReason::NoVni,
        ),
        drop(
            "sender that is no peer",
            Tunnelled {
                source: [198, 51, 100, 1],
                ..Tunnelled::default()
            }
            .build(),
            0,
            0,
            DropReason::UnknownPeer,
        ),
        drop(
            "our own address as sender",
            Tunnelled {
                source: VTEP_IP,
                ..Tunnelled::default()
            }
            .build(),
            0,
            0,
            DropReason::OwnSource,
        ),
        drop(
            "VNI that is not here",
            Tunnelled {
                vni: 99,
                ..Tunnelled::default()
            }
            .build(),
            0,
            1,
            DropReason::UnknownVni,
        ),
        drop(
            "the largest VNI, not here",
            Tunnelled {
                vni: 0xff_ffff,
                ..Tunnelled::default()
            }
            .build(),
            0,
            1,
            DropReason::UnknownVni,
        ),
        drop(
            "MAC known, but in the other network",
            Tunnelled {
                vni: OTHER_VNI,
                inner: udp(B, A2, 100),
                ..Tunnelled::default()
            }
            .build(),
            OTHER_VNI,
            1,
            DropReason::InnerSource,
        ),
        drop(
            "inner source of another VTEP",
            Tunnelled {
                source: PEER2_IP,
                ..Tunnelled::default()
            }
            .build(),
            VNI,
            2,
            DropReason::InnerSource,
        ),
        drop(
            "inner source of an endpoint here",
            with_inner(udp(A2, A, 100)),
            VNI,
            1,
            DropReason::InnerSource,
        ),
        drop(
            "inner source nobody has",
            with_inner(udp(MacAddr([2; 6]), A, 100)),
            VNI,
            1,
            DropReason::InnerSource,
        ),
        drop(
            "inner source broadcast",
            with_inner(udp(MacAddr::BROADCAST, A, 100)),
            VNI,
            1,
            DropReason::InnerSource,
        ),
        drop(
            "inner destination nobody has",
            with_inner(udp(B, MacAddr([2; 6]), 100)),
            VNI,
            1,
            DropReason::UnknownDestination,
        ),
        drop(
            "inner destination at another host",
            with_inner(udp(B, C, 100)),
            VNI,
            1,
            DropReason::NotLocal,
        ),
        drop(
            "broadcast",
            with_inner(udp(B, MacAddr::BROADCAST, 100)),
            VNI,
            1,
            DropReason::FloodDisabled,
        ),
        drop(
            "broadcast ARP for an address nobody has",
            with_inner(arp(B, MacAddr::BROADCAST, 1, B_IP, [10, 0, 0, 99])),
            VNI,
            1,
            DropReason::FloodDisabled,
        ),
        drop(
            "broadcast ARP with another sender inside",
            {
                let mut inner = arp(B, MacAddr::BROADCAST, 1, B_IP, A_IP);
                inner[22 + 5] ^= 1;
                with_inner(inner)
            },
            VNI,
            1,
            DropReason::FloodDisabled,
        ),
        drop(
            "solicitation for its own host's endpoint",
            with_inner(solicitation(B_IP6)),
            VNI,
            1,
            DropReason::NotLocal,
        ),
        drop(
            "solicitation for an address nobody has",
            with_inner(solicitation([0xfc; 16])),
            VNI,
            1,
            DropReason::FloodDisabled,
        ),
        drop(
            "another message to everybody",
            with_inner(nd(
                [B, MacAddr([0x33, 0x33, 0, 0, 0, 1])],
                [B_IP6, solicited_node(A2_IP6)],
                136,
                0x20,
                &A2_IP6,
            )),
            VNI,
            1,
            DropReason::FloodDisabled,
        ),
        drop(
            "broadcast ARP for its own host's endpoint",
            with_inner(arp(B, MacAddr::BROADCAST, 1, B_IP, B_IP)),
            VNI,
            1,
            DropReason::NotLocal,
        ),
    ]);
}
