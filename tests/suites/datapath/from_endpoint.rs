//! `from_endpoint`, encapsulation and local switching at TC ingress.

use overlay_common::Direction::Tx;
use overlay_common::maps::FROM_ENDPOINT;
use overlay_common::net::MacAddr;
use overlay_common::{DropReason, FallbackCause};

use super::case::{Case, REDIRECT, SHOT, check};
use super::fixture::{
    A, A_IP, A2, A2_IP, B, B_IP, C, Counters, D, NEXT_HOP, PEER1_IP, PEER2_IP, PORT, Programs, Run,
    SOURCE_MAC, VNI, VTEP_IP, dropped, fell_back, sent,
};
use super::frames::{OUTER_LEN, arp, ethernet, tcp, udp, udp6};

fn run(cases: Vec<Case>) {
    check(cases, classify);
}

fn classify(programs: &Programs, case: &Case) -> Run {
    programs.classify(FROM_ENDPOINT, &case.frame, case.gso_size)
}

/// Runs one frame and splits what came out into source port, outer headers and inner frame.
fn encapsulate(programs: &Programs, frame: &[u8]) -> (u16, Vec<u8>, Vec<u8>) {
    let run = programs.classify(FROM_ENDPOINT, frame, 0);
    assert_eq!(run.verdict, REDIRECT);
    let (outer, inner) = run.frame.split_at(OUTER_LEN);
    let port = u16::from_be_bytes([outer[34], outer[35]]);
    (port, outer.to_vec(), inner.to_vec())
}

/// The outer headers that another implementation would have made.
fn expected_outer(destination: [u8; 4], next_hop: MacAddr, port: u16, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend((VNI << 8).to_be_bytes());
    payload.extend(inner);
    let mut frame = Vec::new();
    let ip = etherparse::Ipv4Header {
        dont_fragment: true,
        ..etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, VTEP_IP, destination)
            .unwrap()
    };
    etherparse::PacketBuilder::ethernet2(SOURCE_MAC.0, next_hop.0)
        .ip(etherparse::IpHeaders::Ipv4(ip, Default::default()))
        .udp(port, PORT)
        .write(&mut frame, &payload)
        .unwrap();
    // RFC 7348, section 5: the UDP checksum should be zero.
    frame[40..42].fill(0);
    frame
}

#[test]
fn encapsulates() {
    let programs = Programs::load();
    for (what, inner, destination, next_hop) in [
        ("UDP", udp(A, B, 100), PEER1_IP, NEXT_HOP),
        ("TCP", tcp(A, B, 1400), PEER1_IP, NEXT_HOP),
        ("IPv6", udp6(A, B), PEER1_IP, NEXT_HOP),
        (
            "the largest that fits",
            udp(A, B, 1450 - 28),
            PEER1_IP,
            NEXT_HOP,
        ),
        (
            "next hop unknown",
            udp(A, C, 100),
            PEER2_IP,
            MacAddr::default(),
        ),
    ] {
        let (port, outer, after) = encapsulate(&programs, &inner);
        assert!(port >= 49152, "{what}: source port {port}");
        assert_eq!(after, inner, "{what}");
        let whole = [outer, after].concat();
        assert_eq!(
            whole,
            expected_outer(destination, next_hop, port, &inner),
            "{what}"
        );
    }
}

#[test]
fn counts_what_it_sends() {
    let frame = udp(A, B, 100);
    let programs = Programs::load();
    programs.classify(FROM_ENDPOINT, &frame, 0);
    assert_eq!(programs.counters(), sent(1, frame.len()));
}

#[test]
fn source_port_follows_the_flow() {
    let programs = Programs::load();
    let mut ports = std::collections::BTreeSet::new();
    for flow in 0..32u8 {
        let mut frame = udp(A, B, 100);
        frame[34] = flow;
        let (first, ..) = encapsulate(&programs, &frame);
        // The payload is no part of the flow.
        *frame.last_mut().unwrap() ^= 1;
        let (second, ..) = encapsulate(&programs, &frame);
        assert_eq!(first, second, "flow {flow}");
        ports.insert(first);
    }
    assert!(ports.len() > 24, "32 flows share {} ports", ports.len());
}

#[test]
fn switches_locally_and_answers() {
    let local = udp(A, A2, 100);
    let reply = |mac, ip| {
        let mut frame = arp(mac, A, 2, ip, A_IP);
        frame[32..38].copy_from_slice(&A.0);
        frame
    };
    run(vec![
        Case::new(
            "to the other endpoint here",
            local.clone(),
            REDIRECT,
            sent(0, local.len()),
        ),
        Case::new(
            "ARP to an endpoint here is switched",
            arp(A, A2, 2, A_IP, A2_IP),
            REDIRECT,
            sent(0, 42),
        ),
        Case::new(
            "ARP for an endpoint here",
            arp(A, MacAddr::BROADCAST, 1, A_IP, A2_IP),
            REDIRECT,
            Counters::new(),
        )
        .leaving(reply(A2, A2_IP)),
        Case::new(
            "ARP for an endpoint of a peer",
            arp(A, MacAddr::BROADCAST, 1, A_IP, B_IP),
            REDIRECT,
            Counters::new(),
        )
        .leaving(reply(B, B_IP)),
        Case::new(
            "ARP by unicast",
            arp(A, B, 1, A_IP, B_IP),
            REDIRECT,
            Counters::new(),
        )
        .leaving(reply(B, B_IP)),
    ]);
}

#[test]
fn falls_back() {
    let fallback = |what, frame: Vec<u8>, cause| {
        let mut counters = fell_back(Tx, cause);
        counters.extend(sent(1, frame.len()));
        Case::new(what, frame, REDIRECT, counters)
    };
    run(vec![
        fallback(
            "ARP reply to a peer",
            arp(A, B, 2, A_IP, B_IP),
            FallbackCause::InnerNotIp,
        ),
        fallback(
            "another ethertype",
            ethernet(A, B, 0x88b5, &[0; 46]),
            FallbackCause::InnerNotIp,
        ),
        // Here an aggregate has no segmentation type, which `adjust_room` refuses.
        fallback(
            "aggregate of a kind that the kernel refuses to change",
            tcp(A, B, 2900),
            FallbackCause::RoomRefused,
        )
        .aggregate(1450 - 40),
        fallback(
            "aggregate of segments of any length (SCTP)",
            udp(A, B, 2900),
            FallbackCause::RoomRefused,
        )
        .aggregate(0xffff),
    ]);
}

#[test]
fn drops() {
    let drop =
        |what, frame, peer, reason| Case::new(what, frame, SHOT, dropped(VNI, peer, Tx, reason));
    let mut strange_arp = arp(A, MacAddr::BROADCAST, 1, A_IP, B_IP);
    strange_arp[15] = 6;
    let mut spoofed_arp = arp(A, MacAddr::BROADCAST, 1, A_IP, B_IP);
    spoofed_arp[22 + 5] = 0xb;
    run(vec![
        drop("another's MAC", udp(B, A2, 100), 0, DropReason::SourceMac),
        drop(
            "broadcast as source",
            udp(MacAddr::BROADCAST, B, 100),
            0,
            DropReason::SourceMac,
        ),
        drop(
            "802.1Q",
            ethernet(A, B, 0x8100, &[0; 46]),
            0,
            DropReason::Vlan,
        ),
        drop(
            "802.1ad",
            ethernet(A, B, 0x88a8, &[0; 46]),
            0,
            DropReason::Vlan,
        ),
        drop("LLC", ethernet(A, B, 46, &[0; 46]), 0, DropReason::Llc),
        drop("ARP of another kind", strange_arp, 0, DropReason::BadArp),
        drop("ARP in another's name", spoofed_arp, 0, DropReason::BadArp),
        drop(
            "ARP cut short",
            arp(A, MacAddr::BROADCAST, 1, A_IP, B_IP)[..41].to_vec(),
            0,
            DropReason::BadArp,
        ),
        drop(
            "ARP for an address nobody has",
            arp(A, MacAddr::BROADCAST, 1, A_IP, [10, 0, 0, 99]),
            0,
            DropReason::UnknownNeighbor,
        ),
        drop(
            "ARP for its own address",
            arp(A, MacAddr::BROADCAST, 1, [0; 4], A_IP),
            0,
            DropReason::FloodDisabled,
        ),
        drop(
            "broadcast",
            udp(A, MacAddr::BROADCAST, 100),
            0,
            DropReason::FloodDisabled,
        ),
        drop(
            "multicast",
            udp(A, MacAddr([1, 0, 0x5e, 0, 0, 1]), 100),
            0,
            DropReason::FloodDisabled,
        ),
        drop(
            "MAC nobody has",
            udp(A, MacAddr([2; 6]), 100),
            0,
            DropReason::UnknownDestination,
        ),
        drop(
            "peer without a route",
            udp(A, D, 100),
            3,
            DropReason::NoRoute,
        ),
    ]);
}

#[test]
fn interface_without_endpoint() {
    let mut programs = Programs::load();
    programs.remove_endpoint();
    let run = programs.classify(FROM_ENDPOINT, &udp(A, B, 100), 0);
    assert_eq!(run.verdict, SHOT);
    assert_eq!(
        programs.counters(),
        dropped(0, 0, Tx, DropReason::UnknownInterface)
    );
}

#[test]
fn drops_add_up() {
    let programs = Programs::load();
    for _ in 0..3 {
        programs.classify(FROM_ENDPOINT, &udp(B, A2, 100), 0);
    }
    let mut counters = dropped(VNI, 0, Tx, DropReason::SourceMac);
    counters.values_mut().for_each(|count| *count = 3);
    assert_eq!(programs.counters(), counters);
}
