//! `from_underlay`: what gets out of a tunnel and what does not, over both families.

use overlay_common::Direction::Rx;
use overlay_common::maps::FROM_UNDERLAY;
use overlay_common::net::MacAddr;
use overlay_common::{DropReason, FallbackCause};

use super::case::{Case, NEXT, REDIRECT, SHOT, check_one};
use super::fixture::{
    A, A2, B, C, Counters, OTHER_VNI, PEER2_IP, Programs, ROUTER, STALE, TAGGED_VNI, VNI, VTEP_IP,
    dropped, fell_back, received,
};
use super::frames::{Over, Tunnelled, ethernet, tcp, udp, udp6};

fn run(cases: impl Fn(Over) -> Vec<Case>) {
    let programs = Programs::load();
    let mut failures = Vec::new();
    for over in Over::BOTH {
        for case in cases(over) {
            let result = check_one(&programs, &case, |programs, case| {
                programs.classify(FROM_UNDERLAY, &case.frame, case.gso_size)
            });
            if let Err(error) = result {
                failures.push(format!("{over:?}: {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn plain() -> Tunnelled {
    Tunnelled::default()
}

fn with(inner: Vec<u8>) -> Tunnelled {
    Tunnelled { inner, ..plain() }
}

#[test]
fn delivers() {
    run(|over| {
        let deliver = |what, tunnelled: Tunnelled| {
            let counters = received(1, tunnelled.inner.len());
            let inner = tunnelled.inner.clone();
            Case::new(what, tunnelled.over(over), REDIRECT, counters).leaving(inner)
        };
        let mut dead = udp(B, A, 100);
        dead[14 + 8] = 0;
        let nested = with(udp(B, A, 40)).build();
        vec![
            deliver("IPv4 inside", plain()),
            deliver("IPv6 inside", with(udp6(B, A))),
            deliver("TCP to a router, no aggregate", with(tcp(B, ROUTER, 100))),
            deliver(
                "reserved bits set",
                Tunnelled {
                    flags: 0xff,
                    ..plain()
                },
            ),
            deliver(
                "TTL 0 and a wrong checksum inside: a bridge does not look",
                with(dead),
            ),
            deliver(
                "VXLAN inside",
                with([&A.0[..], &B.0[..], &nested[12..]].concat()),
            ),
        ]
    });
}

#[test]
fn leaves_alone() {
    run(|over| {
        let next = |what, tunnelled: Tunnelled| {
            Case::new(what, tunnelled.over(over), NEXT, Counters::new())
        };
        let mut other_mac = Case::new("another MAC", plain().over(over), NEXT, Counters::new());
        other_mac.frame[0] = 2;
        vec![
            next(
                "another address",
                Tunnelled {
                    destination: PEER2_IP,
                    ..plain()
                },
            ),
            next(
                "another port",
                Tunnelled {
                    port: 8472,
                    ..plain()
                },
            ),
            other_mac,
        ]
    });
}

#[test]
fn leaves_to_the_kernel() {
    run(|over| {
        let fallback = |what, tunnelled: Tunnelled, cause| {
            Case::new(what, tunnelled.over(over), NEXT, fell_back(Rx, cause))
        };
        vec![
            fallback(
                "an outer checksum that nobody has verified",
                Tunnelled {
                    checksum: 0x1234,
                    ..plain()
                },
                FallbackCause::OuterChecksum,
            ),
            fallback(
                "another ethertype",
                with(ethernet(B, A, 0x88b5, &[0; 46])),
                FallbackCause::InnerNotIp,
            ),
            fallback(
                "a tag on a network that carries them",
                Tunnelled {
                    vni: TAGGED_VNI,
                    ..with(ethernet(B, A, 0x8100, &[0; 46]))
                },
                FallbackCause::Vlan,
            ),
            fallback(
                "an aggregate of UDP",
                with(udp(B, A, 1000)),
                FallbackCause::InnerAggregate,
            )
            .aggregate(500),
            fallback(
                "an aggregate of TCP for a router",
                with(tcp(B, ROUTER, 1000)),
                FallbackCause::Forwarding,
            )
            .aggregate(500),
        ]
    });
}

#[test]
fn refuses() {
    run(|over| {
        let drop = |what, tunnelled: Tunnelled, vni, peer, reason| {
            let counters = dropped(vni, peer, Rx, reason);
            Case::new(what, tunnelled.over(over), SHOT, counters)
        };
        let inner = |what, frame, reason| drop(what, with(frame), VNI, 1, reason);
        let vni = |vni| Tunnelled { vni, ..plain() };
        let source = |source| Tunnelled { source, ..plain() };
        let strange = [198, 51, 100, 1];
        let nobody = MacAddr([2; 6]);
        vec![
            drop(
                "I flag clear",
                Tunnelled {
                    flags: 0xf7,
                    ..plain()
                },
                0,
                0,
                DropReason::NoVni,
            ),
            drop("VNI 0", vni(0), 0, 0, DropReason::NoVni),
            drop("unknown VNI", vni(99), 0, 1, DropReason::UnknownVni),
            drop("largest VNI", vni(0xff_ffff), 0, 1, DropReason::UnknownVni),
            drop("stranger", source(strange), 0, 0, DropReason::UnknownPeer),
            drop("ourselves", source(VTEP_IP), 0, 0, DropReason::OwnSource),
            drop(
                "inner source of another VTEP",
                source(PEER2_IP),
                VNI,
                2,
                DropReason::InnerSource,
            ),
            drop(
                "inner source known on another network only",
                vni(OTHER_VNI),
                OTHER_VNI,
                1,
                DropReason::InnerSource,
            ),
            inner("source here", udp(A2, A, 1), DropReason::InnerSource),
            inner(
                "source nobody's",
                udp(nobody, A, 1),
                DropReason::InnerSource,
            ),
            inner(
                "source broadcast",
                udp(MacAddr::BROADCAST, A, 1),
                DropReason::InnerSource,
            ),
            inner("stale source", udp(STALE, A, 1), DropReason::InnerSource),
            inner(
                "stale destination",
                udp(B, STALE, 1),
                DropReason::UnknownDestination,
            ),
            inner(
                "destination nobody's",
                udp(B, nobody, 1),
                DropReason::UnknownDestination,
            ),
            inner("destination elsewhere", udp(B, C, 1), DropReason::NotLocal),
            inner("802.1Q", ethernet(B, A, 0x8100, &[0; 46]), DropReason::Vlan),
            inner("QinQ", ethernet(B, A, 0x88a8, &[0; 46]), DropReason::Vlan),
            inner("MPLS", ethernet(B, A, 0x8847, &[0; 46]), DropReason::Mpls),
            inner(
                "MPLS multicast",
                ethernet(B, A, 0x8848, &[0; 46]),
                DropReason::Mpls,
            ),
            inner("LLC", ethernet(B, A, 46, &[0; 46]), DropReason::Llc),
            inner(
                "the longest LLC",
                ethernet(B, A, 0x05ff, &[0; 46]),
                DropReason::Llc,
            ),
        ]
    });
}
