//! `underlay_filter` with decapsulation in XDP, over both families: what comes out, what is handed over
//! in front of it, and what is left to `from_underlay`.

use overlay_common::Direction::Rx;
use overlay_common::DropReason;
use overlay_common::layout::vtep_flags;
use overlay_common::net::MacAddr;

use super::case::{Case, XDP_DROP, XDP_PASS, check_one};
use super::fixture::{
    A, A2, B, C, Counters, PEER2_IP, Programs, ROUTER, TAGGED_VNI, VNI, VTEP_IP, dropped,
};
use super::frames::{Over, Tunnelled, arp, ethernet, tcp, tcp6, udp, udp6};

const COOKIE: u32 = 0x1234_5678;

/// The programs in a world where XDP decapsulates; the device's MAC is all zero.
pub(super) fn programs() -> Programs {
    let mut programs = Programs::load();
    programs.change_world(|world| {
        world.vtep.flags = vtep_flags::XDP_DECAP;
        world.vtep.cookie = COOKIE;
    });
    programs
}

/// What is handed over: the cookie, the network, the sender.
pub(super) fn handover(vni: u32, peer: u32) -> Vec<u8> {
    [COOKIE, vni, peer].map(u32::to_ne_bytes).concat()
}

fn with(inner: Vec<u8>) -> Tunnelled {
    Tunnelled {
        inner,
        ..Tunnelled::default()
    }
}

/// Runs each case and wants this metadata of it.
fn run(programs: &Programs, cases: impl Fn(Over) -> Vec<(Case, Vec<u8>)>) {
    let mut failures = Vec::new();
    for over in Over::BOTH {
        for (case, metadata) in cases(over) {
            let result = check_one(programs, &case, |programs, case| {
                let run = programs.filter(&case.frame);
                assert_eq!(run.metadata, metadata, "{over:?}: {}", case.what);
                run
            });
            if let Err(error) = result {
                failures.push(format!("{over:?}: {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Nothing is counted: `from_underlay` does that, of what GRO has made of it.
#[test]
fn takes_tcp_out() {
    run(&programs(), |over| {
        let strip = |what, tunnelled: Tunnelled, vni, peer| {
            let case = Case::new(what, tunnelled.over(over), XDP_PASS, Counters::new());
            (case.leaving(tunnelled.inner), handover(vni, peer))
        };
        let mut bad = tcp(B, A, 100);
        bad[14 + 20 + 16] ^= 1;
        vec![
            strip("IPv4 inside", with(tcp(B, A, 100)), VNI, 1),
            strip("IPv6 inside", with(tcp6(B, A)), VNI, 1),
            strip("nothing but headers", with(tcp(B, A, 0)), VNI, 1),
            strip("to a router", with(tcp(B, ROUTER, 100)), VNI, 1),
            strip(
                "a wrong TCP checksum, which the receiver finds",
                with(bad),
                VNI,
                1,
            ),
            strip(
                "another peer",
                Tunnelled {
                    source: PEER2_IP,
                    ..with(tcp(C, A2, 100))
                },
                VNI,
                2,
            ),
            strip(
                "another network",
                Tunnelled {
                    vni: TAGGED_VNI,
                    ..with(tcp(B, A, 100))
                },
                TAGGED_VNI,
                1,
            ),
            strip(
                "reserved bits set",
                Tunnelled {
                    flags: 0xff,
                    ..with(tcp(B, A, 100))
                },
                VNI,
                1,
            ),
        ]
    });
}

#[test]
fn leaves_the_rest() {
    let programs = programs();
    run(&programs, |over| {
        let leave = |what, frame| {
            let case = Case::new(what, frame, XDP_PASS, Counters::new());
            (case, Vec::new())
        };
        let plain = with(tcp(B, A, 100)).over(over);
        let mut other_mac = plain.clone();
        other_mac[5] = 9;
        let multicast = MacAddr([1, 0, 0x5e, 0, 0, 1]);
        let mut padded = plain.clone();
        padded.push(0);
        vec![
            leave("UDP", with(udp(B, A, 100)).over(over)),
            leave("UDP over IPv6", with(udp6(B, A)).over(over)),
            leave("for another MAC", other_mac),
            leave("padded", padded),
            leave(
                "an outer UDP checksum",
                Tunnelled {
                    checksum: 0x1234,
                    ..with(tcp(B, A, 100))
                }
                .over(over),
            ),
            leave(
                "the device's own MAC inside",
                with(tcp(B, MacAddr([0; 6]), 100)).over(over),
            ),
            leave("multicast", with(tcp(B, multicast, 100)).over(over)),
            leave(
                "an ARP question",
                with(arp(B, MacAddr([0xff; 6]), 1, [10, 0, 0, 3], [10, 0, 0, 1])).over(over),
            ),
            leave(
                "an ARP answer",
                with(arp(B, A, 2, [10, 0, 0, 3], [10, 0, 0, 1])).over(over),
            ),
            leave(
                "neither IPv4 nor IPv6",
                with(ethernet(B, A, 0x88cc, &[0; 60])).over(over),
            ),
            leave(
                "an IP header cut short",
                with(ethernet(
                    B,
                    A,
                    0x0800,
                    &[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0],
                ))
                .over(over),
            ),
            leave(
                "an Ethernet header and nothing else",
                with(ethernet(B, A, 0x0800, &[])).over(over),
            ),
            leave(
                "for another address",
                Tunnelled {
                    destination: [192, 0, 2, 9],
                    ..with(tcp(B, A, 100))
                }
                .over(over),
            ),
        ]
    });
}

/// Whatever is not taken out passes the early filter; what is taken out passes everything.
#[test]
fn refuses() {
    run(&programs(), |over| {
        let drop = |what, tunnelled: Tunnelled, vni, peer, reason| {
            let counters = dropped(vni, peer, Rx, reason);
            let case = Case::new(what, tunnelled.over(over), XDP_DROP, counters);
            (case, Vec::new())
        };
        let from = |source, inner| Tunnelled {
            source,
            ..with(inner)
        };
        let on = |vni, inner| Tunnelled { vni, ..with(inner) };
        let stranger = [198, 51, 100, 1];
        let nobody = MacAddr([2, 0, 0, 0, 0, 0x77]);
        let inner = || tcp(B, A, 100);
        vec![
            drop(
                "a stranger",
                from(stranger, inner()),
                0,
                0,
                DropReason::UnknownPeer,
            ),
            drop(
                "our own address",
                from(VTEP_IP, inner()),
                0,
                0,
                DropReason::OwnSource,
            ),
            drop(
                "an unknown VNI",
                on(99, inner()),
                0,
                1,
                DropReason::UnknownVni,
            ),
            drop(
                "UDP of a stranger",
                from(stranger, udp(B, A, 9)),
                0,
                0,
                DropReason::UnknownPeer,
            ),
            drop(
                "UDP, unknown VNI",
                on(99, udp(B, A, 9)),
                0,
                1,
                DropReason::UnknownVni,
            ),
            drop(
                "from another peer's endpoint",
                with(tcp(C, A, 9)),
                VNI,
                1,
                DropReason::InnerSource,
            ),
            drop(
                "from an endpoint here",
                with(tcp(A2, A, 9)),
                VNI,
                1,
                DropReason::InnerSource,
            ),
            drop(
                "from nobody",
                with(tcp(nobody, A, 9)),
                VNI,
                1,
                DropReason::InnerSource,
            ),
            drop(
                "to nobody",
                with(tcp(B, nobody, 9)),
                VNI,
                1,
                DropReason::UnknownDestination,
            ),
            drop(
                "to an endpoint elsewhere",
                with(tcp(B, C, 9)),
                VNI,
                1,
                DropReason::NotLocal,
            ),
        ]
    });
}

/// On a network that floods, what is for nobody here is for everybody: copies are made at TC.
#[test]
fn leaves_what_is_flooded() {
    let mut programs = programs();
    programs.change_world(|world| {
        let network = world.vnis.get_mut(&VNI).expect("the network");
        network.flood = overlay_common::layout::FloodMode::Replicate as u32;
    });
    run(&programs, |over| {
        let frame = with(tcp(B, MacAddr([2, 0, 0, 0, 0, 0x77]), 100)).over(over);
        vec![(
            Case::new("unicast to nobody", frame, XDP_PASS, Counters::new()),
            Vec::new(),
        )]
    });
}

/// Until the agent says so, XDP filters only.
#[test]
fn is_off_unless_wanted() {
    let mut programs = programs();
    programs.change_world(|world| world.vtep.flags = 0);
    run(&programs, |over| {
        let frame = with(tcp(B, A, 100)).over(over);
        vec![(
            Case::new("TCP", frame, XDP_PASS, Counters::new()),
            Vec::new(),
        )]
    });
}
