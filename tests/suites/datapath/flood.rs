//! Flooding: verdicts and counters. What arrives where is suite `flood`'s.
//!
//! Loopback stands for the fallback device and for the endpoints that get a copy; the sender's own
//! interface is loopback too, which a copy never goes to.

use overlay_common::Direction::{self, Rx, Tx};
use overlay_common::layout::{
    FLOOD_MAX, FloodMode, FloodPeer, FloodValue, TunnelValue, VniValue, endpoint_flags,
};
use overlay_common::maps::{FROM_ENDPOINT, FROM_UNDERLAY};
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::{DropReason, FallbackCause};

use super::case::{Case, NEXT, REDIRECT, SHOT, XDP_PASS, check_one};
use super::fixture::{
    A, A_IP, A2, B, Counters, LOOPBACK, Programs, Run, VNI, dropped, fell_back, received, sent,
    tunnel, tunnel_v6,
};
use super::frames::{Tunnelled, arp, ethernet, udp};

const GROUP: [u8; 4] = [239, 1, 2, 3];
const GROUP_MAC: MacAddr = MacAddr([1, 0, 0x5e, 1, 2, 3]);
/// `ff05::7`
const GROUP6: [u8; 16] = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const GROUP6_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 7];
/// The group's place in TUNNELS, and its slot in STATS, which is that of peer 4.
const GROUP_INDEX: u32 = 100;
const GROUP_PEER: usize = 4;
const GROUP_SLOT: u32 = 5;

/// The small world, its network flooding to peers 1 and 3 (which has no route), to this host's
/// loopback and to a device that is not there.
fn flooding(mode: FloodMode, rate: u32) -> Programs {
    let mut programs = Programs::load();
    programs.change_world(|world| {
        let group = match mode {
            FloodMode::Multicast => IpKey::v4(GROUP),
            FloodMode::Drop | FloodMode::Replicate => IpKey::default(),
        };
        let network = VniValue {
            flood: mode as u32,
            flood_rate: rate,
            flood_tunnel: GROUP_INDEX,
            mtu: 1450,
            group,
            ..VniValue::default()
        };
        world.vnis.insert(VNI, network);
        world.tunnels.insert(GROUP_INDEX, tunnel(GROUP, GROUP_MAC));
        world.floods.insert(VNI, list(mode));
        let endpoint = world.endpoints.get_mut(&LOOPBACK).unwrap();
        endpoint.flags |= endpoint_flags::FLOODS;
    });
    programs
}

fn list(mode: FloodMode) -> FloodValue {
    let mut value = FloodValue {
        peer_count: 2,
        local_count: 2,
        local_stats: 1,
        pad: 0,
        peers: [FloodPeer::default(); FLOOD_MAX],
        locals: [0; FLOOD_MAX],
    };
    value.peers[0] = FloodPeer { peer: 1, stats: 2 };
    value.peers[1] = FloodPeer { peer: 3, stats: 4 };
    if mode == FloodMode::Multicast {
        value.peer_count = 1;
        value.peers[0] = FloodPeer {
            peer: GROUP_INDEX,
            stats: GROUP_SLOT,
        };
    }
    value.locals[0] = LOOPBACK;
    value.locals[1] = 0x7fff_ffff;
    value
}

fn from_endpoint(programs: &Programs, case: &Case) -> Run {
    programs.classify(FROM_ENDPOINT, &case.frame, case.gso_size)
}

/// With the copy that the endpoint did not get whose device is gone.
fn and_one_lost(mut counters: Counters, direction: Direction) -> Counters {
    counters.extend(dropped(VNI, 0, direction, DropReason::CopyFailed));
    counters
}

fn check_all(programs: &mut Programs, cases: &[Case], run: impl Fn(&Programs, &Case) -> Run) {
    let mut failures = Vec::new();
    for case in cases {
        programs.reset();
        failures.extend(check_one(programs, case, &run).err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Frames for nobody in particular, and why a network that does not flood drops them.
fn unaddressed() -> Vec<(&'static str, Vec<u8>, DropReason)> {
    vec![
        (
            "broadcast",
            udp(A, MacAddr::BROADCAST, 100),
            DropReason::FloodDisabled,
        ),
        (
            "multicast",
            udp(A, GROUP_MAC, 100),
            DropReason::FloodDisabled,
        ),
        (
            "unknown unicast",
            udp(A, MacAddr([2; 6]), 100),
            DropReason::UnknownDestination,
        ),
        (
            "no IP",
            ethernet(A, MacAddr::BROADCAST, 0x88b5, &[0; 46]),
            DropReason::FloodDisabled,
        ),
        (
            "ARP for nobody known",
            arp(A, MacAddr::BROADCAST, 1, A_IP, [10, 0, 0, 99]),
            DropReason::UnknownNeighbor,
        ),
        (
            "gratuitous ARP",
            arp(A, MacAddr::BROADCAST, 1, A_IP, A_IP),
            DropReason::FloodDisabled,
        ),
    ]
}

#[test]
fn replicate_counts_each_copy() {
    let mut programs = flooding(FloodMode::Replicate, 1000);
    let cases: Vec<Case> = unaddressed()
        .into_iter()
        .map(|(what, frame, _)| {
            let mut counters = sent(1, frame.len());
            counters.extend(dropped(VNI, 3, Tx, DropReason::NoRoute));
            Case::new(what, frame, SHOT, and_one_lost(counters, Tx))
        })
        .collect();
    check_all(&mut programs, &cases, from_endpoint);
}

#[test]
fn what_is_too_big_for_a_tunnel_is_counted_there() {
    let mut programs = flooding(FloodMode::Replicate, 1000);
    let mut counters = dropped(VNI, 1, Tx, DropReason::TooBig);
    counters.extend(dropped(VNI, 3, Tx, DropReason::NoRoute));
    let frame = udp(A, MacAddr::BROADCAST, 1450 - 28 + 1);
    let case = Case::new("one byte too big", frame, SHOT, and_one_lost(counters, Tx));
    check_all(&mut programs, &[case], from_endpoint);
}

#[test]
fn copies_for_other_endpoints_are_counted_as_local() {
    let mut programs = flooding(FloodMode::Replicate, 1000);
    programs.change_world(|world| {
        let list = world.floods.get_mut(&VNI).unwrap();
        list.peer_count = 0;
    });
    let frame = udp(A, MacAddr::BROADCAST, 100);
    let counters = and_one_lost(Counters::new(), Tx);
    let case = Case::new("none but the sender is here", frame, SHOT, counters);
    check_all(&mut programs, &[case], from_endpoint);
}

/// Whatever the frame is.
#[test]
fn multicast_sends_one_frame_to_the_group() {
    for group in [tunnel(GROUP, GROUP_MAC), to_group6()] {
        let mut programs = flooding(FloodMode::Multicast, 1000);
        programs.change_tunnel(GROUP_INDEX, |tunnel| *tunnel = group);
        for (what, frame, _) in unaddressed() {
            programs.reset();
            let run = programs.classify(FROM_ENDPOINT, &frame, 0);
            assert_eq!(run.verdict, REDIRECT, "{what}");
            let (outer, inner) = run.frame.split_at(group.header_len as usize);
            assert_eq!(inner, frame, "{what}");
            // Both MACs and the ethertype, and up to the addresses' end nothing but the lengths and
            // the checksum.
            assert_eq!(outer[..14], group.header[..14], "{what}");
            let addresses = if group.is_ipv6() { 22..54 } else { 26..34 };
            assert_eq!(outer[addresses.clone()], group.header[addresses], "{what}");
            let counters = and_one_lost(sent(GROUP_PEER, frame.len()), Tx);
            assert_eq!(programs.counters(), counters, "{what}");
        }
    }
}

/// A super-packet that the kernel makes no room in: its vxlan device segments what goes to an IPv4
/// group, and sends nothing to an IPv6 group.
#[test]
fn a_super_packet_for_a_group() {
    let frame = udp(A, GROUP_MAC, 1000);
    let v4 = fell_back(Tx, FallbackCause::RoomRefused);
    let v6 = dropped(VNI, GROUP_INDEX, Tx, DropReason::EncapFailed);
    for (group, verdict, counters, is_sent) in [
        (tunnel(GROUP, GROUP_MAC), REDIRECT, v4, true),
        (to_group6(), SHOT, v6, false),
    ] {
        let mut programs = flooding(FloodMode::Multicast, 1000);
        programs.change_tunnel(GROUP_INDEX, |tunnel| *tunnel = group);
        programs.reset();
        assert_eq!(
            programs.classify(FROM_ENDPOINT, &frame, 500).verdict,
            verdict
        );
        let mut counters = counters;
        if is_sent {
            counters.extend(sent(GROUP_PEER, frame.len()));
        }
        assert_eq!(programs.counters(), and_one_lost(counters, Tx));
    }
}

/// The underlay has no address of the group's family.
#[test]
fn without_a_group_nothing_is_sent() {
    let mut programs = flooding(FloodMode::Multicast, 1000);
    programs.change_world(|world| world.floods.get_mut(&VNI).unwrap().peer_count = 0);
    let counters = and_one_lost(dropped(VNI, 0, Tx, DropReason::NoRoute), Tx);
    let frame = udp(A, MacAddr::BROADCAST, 100);
    let case = Case::new("no group", frame, SHOT, counters);
    check_all(&mut programs, &[case], from_endpoint);
}

fn to_group6() -> TunnelValue {
    let mut tunnel = tunnel_v6(GROUP6);
    tunnel.header[..6].copy_from_slice(&GROUP6_MAC);
    tunnel
}

#[test]
fn drop_drops() {
    let mut programs = flooding(FloodMode::Drop, 1000);
    programs.change_world(|world| {
        world.floods.clear();
        let endpoint = world.endpoints.get_mut(&LOOPBACK).unwrap();
        endpoint.flags &= !endpoint_flags::FLOODS;
    });
    let cases: Vec<Case> = unaddressed()
        .into_iter()
        .map(|(what, frame, reason)| Case::new(what, frame, SHOT, dropped(VNI, 0, Tx, reason)))
        .collect();
    check_all(&mut programs, &cases, from_endpoint);
}

/// The endpoint's row says that the network floods, and the network's that it does not: as when a
/// mode changes.
#[test]
fn rows_that_disagree_drop() {
    let mut programs = flooding(FloodMode::Replicate, 1000);
    let case = |what| {
        let counters = dropped(VNI, 0, Tx, DropReason::FloodDisabled);
        Case::new(what, udp(A, MacAddr::BROADCAST, 100), SHOT, counters)
    };
    programs.change_world(|world| world.floods.clear());
    check_all(&mut programs, &[case("no lists")], from_endpoint);
    let mut programs = flooding(FloodMode::Drop, 1000);
    check_all(&mut programs, &[case("mode drop")], from_endpoint);
}

#[test]
fn rate_is_kept() {
    const FRAMES: u64 = 200;
    // One frame a second: no second passes here, so that only the burst does.
    let mut programs = flooding(FloodMode::Replicate, 1);
    programs.reset();
    let frame = udp(A, MacAddr::BROADCAST, 100);
    for _ in 0..FRAMES {
        assert_eq!(programs.classify(FROM_ENDPOINT, &frame, 0).verdict, SHOT);
    }
    let count = |reason, peer| -> u64 {
        dropped(VNI, peer, Tx, reason)
            .keys()
            .filter_map(|key| programs.counters().get(key).copied())
            .sum()
    };
    let exceeded = count(DropReason::FloodRate, 0);
    // Each frame that was flooded had a copy for the peer without a route.
    let flooded = count(DropReason::NoRoute, 3);
    assert_eq!(exceeded + flooded, FRAMES);
    assert!((32..40).contains(&flooded), "{flooded} were flooded");
}

#[test]
fn from_a_peer_to_every_endpoint_here() {
    let mut programs = flooding(FloodMode::Replicate, 1000);
    let from_peer = |what, inner: Vec<u8>| {
        let bytes = inner.len();
        let after = inner.clone();
        let frame = Tunnelled {
            inner,
            ..Tunnelled::default()
        };
        let counters = and_one_lost(received(1, bytes), Rx);
        Case::new(what, frame.build(), SHOT, counters).leaving(after)
    };
    let cases = [
        from_peer("broadcast", udp(B, MacAddr::BROADCAST, 100)),
        from_peer("multicast", udp(B, GROUP_MAC, 100)),
        from_peer("unknown unicast", udp(B, MacAddr([2; 6]), 100)),
    ];
    check_all(&mut programs, &cases, |programs, case| {
        programs.classify(FROM_UNDERLAY, &case.frame, 0)
    });
    // Not to another peer, and not for one who is no endpoint of this peer.
    let refused = |what, inner: Vec<u8>, reason| {
        let frame = Tunnelled {
            inner,
            ..Tunnelled::default()
        };
        Case::new(what, frame.build(), SHOT, dropped(VNI, 1, Rx, reason))
    };
    let cases = [
        refused(
            "to an endpoint of another peer",
            udp(B, super::fixture::C, 100),
            DropReason::NotLocal,
        ),
        refused(
            "broadcast of a local endpoint's MAC",
            udp(A2, MacAddr::BROADCAST, 100),
            DropReason::InnerSource,
        ),
    ];
    check_all(&mut programs, &cases, |programs, case| {
        programs.classify(FROM_UNDERLAY, &case.frame, 0)
    });
}

#[test]
fn only_the_networks_own_group_is_for_us() {
    let mut programs = flooding(FloodMode::Multicast, 1000);
    let inner = udp(B, MacAddr::BROADCAST, 100);
    let to = |destination| Tunnelled {
        inner: inner.clone(),
        destination,
        ..Tunnelled::default()
    };
    let own = to(GROUP).build();
    let other = to([239, 1, 2, 4]).build();
    let cases = [
        Case::new(
            "its group",
            own,
            SHOT,
            and_one_lost(received(1, inner.len()), Rx),
        )
        .leaving(inner.clone()),
        Case::new("another group", other.clone(), NEXT, Counters::new()),
    ];
    check_all(&mut programs, &cases, |programs, case| {
        programs.classify(FROM_UNDERLAY, &case.frame, 0)
    });
    let cut = to(GROUP).build()[..60].to_vec();
    let cases = [
        Case::new("another group, XDP", other, XDP_PASS, Counters::new()),
        Case::new("cut short, to a group", cut, XDP_PASS, Counters::new()),
    ];
    check_all(&mut programs, &cases, |programs, case| {
        programs.filter(&case.frame)
    });
}
