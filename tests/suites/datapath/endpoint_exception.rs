//! What `from_endpoint` hands on to `endpoint_exception`: neighbours, the gateway, errors to the sender.

use etherparse::{
    Icmpv4Type, Icmpv6Type, IpDscp, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, PacketBuilder,
    icmpv4, icmpv6,
};
use overlay_common::Direction::Tx;
use overlay_common::DropReason;
use overlay_common::maps::FROM_ENDPOINT;
use overlay_common::net::MacAddr;

use super::case::{Case, REDIRECT, SHOT, check};
use super::fixture::{
    A, A_IP, A_IP6, A2, A2_FAR, A2_FAR6, A2_IP6, B, B_FAR, B_FAR6, B_IP, B_IP6, Counters, E,
    GATEWAY, GATEWAY_IP, GATEWAY_IP6, PORT, Programs, Run, STALE_FAR, VNI, VTEP_IP, dropped, sent,
    v6,
};
use super::frames::{ethernet, link_layer, nd, solicited_node, tcp, udp};

const NOBODY_IP6: [u8; 16] = [0xfd, 0xa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];
const UNSPECIFIED: [u8; 16] = [0; 16];
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const SOLICITED_MAC: MacAddr = MacAddr([0x33, 0x33, 0xff, 0, 0, 2]);
/// Bytes of a packet that an error quotes at most.
const QUOTE: usize = 128;

fn run(cases: Vec<Case>) {
    check(cases, classify);
}

fn classify(programs: &Programs, case: &Case) -> Run {
    programs.classify(FROM_ENDPOINT, &case.frame, case.gso_size)
}

/// A's question who has `target`.
fn solicitation(target: [u8; 16]) -> Vec<u8> {
    let rest = [&target[..], &link_layer(1, A)].concat();
    let ends = [A_IP6, solicited_node(target)];
    nd([A, SOLICITED_MAC], ends, 135, 0, &rest)
}

/// The answer that A gets. Flags: 0x80 router, 0x40 solicited, 0x20 override.
fn advertisement(mac: MacAddr, target: [u8; 16], flags: u8) -> Vec<u8> {
    let rest = [&target[..], &link_layer(2, mac)].concat();
    nd([mac, A], [target, A_IP6], 136, flags, &rest)
}

fn link_local(last: u8) -> [u8; 16] {
    [
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, last,
    ]
}

#[test]
fn answers_for_neighbors() {
    let answer =
        |what, frame, after| Case::new(what, frame, REDIRECT, Counters::new()).leaving(after);
    let silent = |what, frame, reason| Case::new(what, frame, SHOT, dropped(VNI, 0, Tx, reason));
    // The search for duplicates asks in nobody's name.
    let probe = |target: [u8; 16]| {
        let ends = [UNSPECIFIED, solicited_node(target)];
        nd([A, SOLICITED_MAC], ends, 135, 0, &target)
    };
    let to_all = {
        let rest = [&A2_IP6[..], &link_layer(2, A2)].concat();
        nd([A2, ALL_NODES_MAC], [A2_IP6, ALL_NODES], 136, 0x20, &rest)
    };
    let by_unicast = {
        let rest = [&B_IP6[..], &link_layer(1, A)].concat();
        nd([A, B], [A_IP6, B_IP6], 135, 0, &rest)
    };
    let from_link_local = {
        let rest = [&B_IP6[..], &link_layer(1, A)].concat();
        let ends = [link_local(0xa), solicited_node(B_IP6)];
        nd([A, SOLICITED_MAC], ends, 135, 0, &rest)
    };
    let to_link_local = {
        let rest = [&B_IP6[..], &link_layer(2, B)].concat();
        nd([B, A], [B_IP6, link_local(0xa)], 136, 0x60, &rest)
    };
    run(vec![
        answer(
            "an endpoint here",
            solicitation(A2_IP6),
            advertisement(A2, A2_IP6, 0x60),
        ),
        answer(
            "one of a peer",
            solicitation(B_IP6),
            advertisement(B, B_IP6, 0x60),
        ),
        answer(
            "the gateway",
            solicitation(GATEWAY_IP6),
            advertisement(GATEWAY, GATEWAY_IP6, 0xe0),
        ),
        answer(
            "a link-local address, by the MAC in it",
            solicitation(link_local(0xb)),
            advertisement(B, link_local(0xb), 0x60),
        ),
        answer("by unicast", by_unicast, advertisement(B, B_IP6, 0x60)),
        answer("from a link-local address", from_link_local, to_link_local),
        answer("a duplicate", probe(A2_IP6), to_all),
        silent("no duplicate", probe(A_IP6), DropReason::FloodDisabled),
        silent(
            "nobody",
            solicitation(NOBODY_IP6),
            DropReason::UnknownNeighbor,
        ),
        silent(
            "a link-local address of nobody",
            solicitation(link_local(0x77)),
            DropReason::UnknownNeighbor,
        ),
        silent(
            "an announcement",
            nd(
                [A, ALL_NODES_MAC],
                [A_IP6, ALL_NODES],
                136,
                0x20,
                &[&A_IP6[..], &link_layer(2, A)].concat(),
            ),
            DropReason::FloodDisabled,
        ),
    ]);
}

#[test]
fn refuses_false_neighbors() {
    let drop = |what, frame, reason| Case::new(what, frame, SHOT, dropped(VNI, 0, Tx, reason));
    let announce = |target: [u8; 16], mac| {
        let rest = [&target[..], &link_layer(2, mac)].concat();
        nd([A, ALL_NODES_MAC], [A_IP6, ALL_NODES], 136, 0x20, &rest)
    };
    let with = |change: fn(&mut Vec<u8>)| {
        let mut frame = solicitation(B_IP6);
        change(&mut frame);
        frame
    };
    // Behind a hop-by-hop header of 8 bytes.
    let hidden = |kind: u8| {
        let mut frame = nd([A, ALL_NODES_MAC], [A_IP6, ALL_NODES], kind, 0, &[0; 16]);
        frame[20] = 0;
        frame.splice(54..54, [58, 0, 1, 4, 0, 0, 0, 0]);
        let len = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        frame
    };
    let router = nd(
        [A, ALL_NODES_MAC],
        [link_local(0xa), ALL_NODES],
        134,
        0,
        &[0; 8],
    );
    let mut fragment = solicitation(B_IP6);
    fragment[20] = 44;
    fragment.splice(54..54, [58, 0, 0, 1, 0, 0, 0, 1]);
    fragment[19] += 8;
    let mut endless = hidden(134);
    endless[54..56].copy_from_slice(&[0, 60]);
    run(vec![
        drop(
            "another's address",
            announce(B_IP6, A),
            DropReason::BadNeighbor,
        ),
        drop(
            "its address at another MAC",
            announce(A_IP6, B),
            DropReason::BadNeighbor,
        ),
        drop(
            "a question in another's name",
            with(|f| f[85] = 0xb),
            DropReason::BadNeighbor,
        ),
        drop(
            "through a router",
            with(|f| f[21] = 254),
            DropReason::BadNeighbor,
        ),
        drop(
            "an option without a length",
            with(|f| f[79] = 0),
            DropReason::BadNeighbor,
        ),
        drop(
            "cut short",
            with(|f| f.truncate(77)),
            DropReason::BadNeighbor,
        ),
        drop("a fragment", fragment, DropReason::BadNeighbor),
        drop(
            "from another's address",
            with(|f| f[23] = 0xa),
            DropReason::SourceIp,
        ),
        drop(
            "a router advertisement",
            router,
            DropReason::RouterAdvertisement,
        ),
        drop(
            "one behind an extension header",
            hidden(134),
            DropReason::RouterAdvertisement,
        ),
        drop(
            "one behind more than is looked at",
            endless,
            DropReason::RouterAdvertisement,
        ),
        drop("discovery behind one", hidden(135), DropReason::BadNeighbor),
    ]);
}

/// UDP to the gateway's MAC.
fn to_gateway(destination: [u8; 4], ttl: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(A.0, GATEWAY.0)
        .ipv4(A_IP, destination, ttl)
        .udp(1000, 2000)
        .write(&mut frame, &[0x5a; 200])
        .unwrap();
    frame
}

fn to_gateway6(destination: [u8; 16], hops: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(A.0, GATEWAY.0)
        .ipv6(A_IP6, destination, hops)
        .udp(1000, 2000)
        .write(&mut frame, &[0x5a; 200])
        .unwrap();
    frame
}

/// The frame to another MAC, written anew.
fn to(mac: MacAddr, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac.0);
    frame
}

#[test]
fn routes_between_subnets() {
    let local = |what, frame: Vec<u8>, after| {
        let counters = sent(0, frame.len());
        Case::new(what, frame, REDIRECT, counters).leaving(after)
    };
    run(vec![
        local(
            "IPv4",
            to_gateway(A2_FAR, 64),
            to(A2, to_gateway(A2_FAR, 63)),
        ),
        local(
            "IPv4, last hop",
            to_gateway(A2_FAR, 2),
            to(A2, to_gateway(A2_FAR, 1)),
        ),
        local(
            "IPv6",
            to_gateway6(A2_FAR6, 64),
            to(A2, to_gateway6(A2_FAR6, 63)),
        ),
    ]);
    for (what, frame, after) in [
        ("IPv4", to_gateway(B_FAR, 64), to_gateway(B_FAR, 63)),
        ("IPv6", to_gateway6(B_FAR6, 64), to_gateway6(B_FAR6, 63)),
    ] {
        let programs = Programs::load();
        let run = programs.classify(FROM_ENDPOINT, &frame, 0);
        assert_eq!(run.verdict, REDIRECT, "{what}");
        assert_eq!(run.frame[50..], to(B, after), "{what}");
        assert_eq!(programs.counters(), sent(1, frame.len()), "{what}");
    }
}

fn quote(frame: &[u8]) -> &[u8] {
    let packet = &frame[14..];
    &packet[..packet.len().min(QUOTE) & !3]
}

/// What A is told by the gateway about a frame of its own.
fn error_v4(kind: Icmpv4Type, frame: &[u8]) -> Vec<u8> {
    let ip = Ipv4Header {
        dscp: IpDscp::try_new(48).unwrap(),
        dont_fragment: false,
        ..Ipv4Header::new(0, 64, IpNumber::ICMP, GATEWAY_IP, A_IP).unwrap()
    };
    let mut error = Vec::new();
    PacketBuilder::ethernet2(GATEWAY.0, A.0)
        .ip(IpHeaders::Ipv4(ip, Default::default()))
        .icmpv4(kind)
        .write(&mut error, quote(frame))
        .unwrap();
    error
}

fn error_v6(kind: Icmpv6Type, frame: &[u8]) -> Vec<u8> {
    let mut error = Vec::new();
    PacketBuilder::ethernet2(GATEWAY.0, A.0)
        .ipv6(GATEWAY_IP6, A_IP6, 64)
        .icmpv6(kind)
        .write(&mut error, quote(frame))
        .unwrap();
    error
}

#[test]
fn tells_the_sender() {
    use icmpv4::DestUnreachableHeader::{FragmentationNeeded, Network};
    use icmpv4::TimeExceededCode::TtlExceededInTransit;
    use icmpv6::DestUnreachableCode::NoRoute;
    use icmpv6::TimeExceededCode::HopLimitExceeded;

    let told_v4 = |what, frame: Vec<u8>, peer, reason, kind| {
        let after = error_v4(kind, &frame);
        Case::new(what, frame, REDIRECT, dropped(VNI, peer, Tx, reason)).leaving(after)
    };
    let told_v6 = |what, frame: Vec<u8>, peer, reason, kind| {
        let after = error_v6(kind, &frame);
        Case::new(what, frame, REDIRECT, dropped(VNI, peer, Tx, reason)).leaving(after)
    };
    let needed =
        |mtu: u16| Icmpv4Type::DestinationUnreachable(FragmentationNeeded { next_hop_mtu: mtu });
    let ended = Icmpv4Type::TimeExceeded(TtlExceededInTransit);
    let unreachable = Icmpv4Type::DestinationUnreachable(Network);
    let no_route = Icmpv6Type::DestinationUnreachable(NoRoute);
    let hops_ended = Icmpv6Type::TimeExceeded(HopLimitExceeded);
    let large6 = |destination: MacAddr, payload| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(A.0, destination.0)
            .ipv6(A_IP6, B_IP6, 64)
            .udp(1000, 2000)
            .write(&mut frame, &vec![0x5a; payload])
            .unwrap();
        frame
    };
    let mut far = to_gateway(B_FAR, 64);
    far.resize(14 + 1451, 0x5a);
    far[16..18].copy_from_slice(&1451u16.to_be_bytes());
    super::frames::fix_ip_checksum(&mut far);
    let far_aged = {
        let mut aged = far.clone();
        aged[22] = 63;
        super::frames::fix_ip_checksum(&mut aged);
        aged
    };
    run(vec![
        told_v4(
            "a byte too big",
            udp(A, B, 1450 - 28 + 1),
            1,
            DropReason::TooBig,
            needed(1450),
        ),
        told_v4(
            "segments too big",
            tcp(A, B, 2900),
            1,
            DropReason::TooBig,
            needed(1450),
        )
        .aggregate(1450 - 40 + 1),
        told_v4(
            "too big over IPv6",
            udp(A, E, 1430 - 28 + 1),
            4,
            DropReason::TooBig,
            needed(1430),
        ),
        told_v6(
            "IPv6, a byte too big",
            large6(B, 1450 - 48 + 1),
            1,
            DropReason::TooBig,
            Icmpv6Type::PacketTooBig { mtu: 1450 },
        ),
        told_v6(
            "IPv6, too big over IPv6",
            large6(E, 1430 - 48 + 1),
            4,
            DropReason::TooBig,
            Icmpv6Type::PacketTooBig { mtu: 1430 },
        ),
        Case::new(
            "too big behind the gateway",
            far,
            REDIRECT,
            dropped(VNI, 1, Tx, DropReason::TooBig),
        )
        .leaving(error_v4(needed(1450), &far_aged)),
        told_v4(
            "TTL 1",
            to_gateway(B_FAR, 1),
            0,
            DropReason::TimeExceeded,
            ended.clone(),
        ),
        told_v4(
            "TTL 0",
            to_gateway(B_FAR, 0),
            0,
            DropReason::TimeExceeded,
            ended,
        ),
        told_v6(
            "hop limit 1",
            to_gateway6(B_FAR6, 1),
            0,
            DropReason::TimeExceeded,
            hops_ended,
        ),
        told_v4(
            "nobody's address",
            to_gateway([10, 0, 1, 99], 64),
            0,
            DropReason::Unroutable,
            unreachable.clone(),
        ),
        told_v4(
            "outside",
            to_gateway([192, 0, 2, 99], 64),
            0,
            DropReason::Unroutable,
            unreachable.clone(),
        ),
        told_v4(
            "a MAC that is gone",
            to_gateway(STALE_FAR, 64),
            0,
            DropReason::Unroutable,
            unreachable,
        ),
        told_v6(
            "IPv6, nobody's address",
            to_gateway6(NOBODY_IP6, 64),
            0,
            DropReason::Unroutable,
            no_route,
        ),
    ]);
}

/// RFC 1122, section 3.2.2, and RFC 4443, section 2.4: no error about an error, a fragment that is not the
/// first, or a group.
#[test]
fn says_nothing() {
    let drop =
        |what, frame, peer, reason| Case::new(what, frame, SHOT, dropped(VNI, peer, Tx, reason));
    let icmp = |kind: u8| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(A.0, GATEWAY.0)
            .ipv4(A_IP, B_FAR, 1)
            .icmpv4_raw(kind, 0, [0; 4])
            .write(&mut frame, &[0; 32])
            .unwrap();
        frame
    };
    let icmp6 = |kind: u8| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(A.0, GATEWAY.0)
            .ipv6(A_IP6, B_FAR6, 1)
            .icmpv6_raw(kind, 0, [0; 4])
            .write(&mut frame, &[0; 32])
            .unwrap();
        frame
    };
    let mut fragment = Vec::new();
    let ip = Ipv4Header {
        dont_fragment: false,
        fragment_offset: IpFragOffset::try_new(100).unwrap(),
        ..Ipv4Header::new(0, 1, IpNumber::UDP, A_IP, B_FAR).unwrap()
    };
    PacketBuilder::ethernet2(A.0, GATEWAY.0)
        .ip(IpHeaders::Ipv4(ip, Default::default()))
        .udp(1, 2)
        .write(&mut fragment, &[0; 100])
        .unwrap();
    let reason = DropReason::TimeExceeded;
    run(vec![
        drop("about an error", icmp(3), 0, reason),
        drop("about a redirect", icmp(5), 0, reason),
        drop("about an error of IPv6", icmp6(1), 0, reason),
        drop("about a redirect of IPv6", icmp6(137), 0, reason),
        drop("about a later fragment", fragment, 0, reason),
        drop(
            "to a group",
            to_gateway([224, 0, 0, 5], 64),
            0,
            DropReason::Unroutable,
        ),
        drop(
            "to the link alone",
            to_gateway([169, 254, 1, 1], 64),
            0,
            DropReason::Unroutable,
        ),
        drop(
            "to the gateway, no echo",
            to_gateway(GATEWAY_IP, 64),
            0,
            DropReason::Unroutable,
        ),
        drop(
            "to the gateway over IPv6",
            to_gateway6(GATEWAY_IP6, 64),
            0,
            DropReason::Unroutable,
        ),
        drop(
            "no IP",
            ethernet(A, GATEWAY, 0x88b5, &[0; 46]),
            0,
            DropReason::Unroutable,
        ),
        drop(
            "too big and no IP",
            ethernet(A, B, 0x88b5, &[0; 1451]),
            1,
            DropReason::TooBig,
        ),
    ]);
}

#[test]
fn the_gateway_answers_an_echo() {
    let echo4 = |[from, to]: [MacAddr; 2], [source, destination]: [[u8; 4]; 2], ttl, reply| {
        let packet = PacketBuilder::ethernet2(from.0, to.0).ipv4(source, destination, ttl);
        let mut frame = Vec::new();
        if reply {
            packet
                .icmpv4_echo_reply(7, 9)
                .write(&mut frame, &[0x5a; 56])
        } else {
            packet
                .icmpv4_echo_request(7, 9)
                .write(&mut frame, &[0x5a; 56])
        }
        .unwrap();
        frame
    };
    let echo6 = |[from, to]: [MacAddr; 2], [source, destination]: [[u8; 16]; 2], hops, reply| {
        let packet = PacketBuilder::ethernet2(from.0, to.0).ipv6(source, destination, hops);
        let mut frame = Vec::new();
        if reply {
            packet
                .icmpv6_echo_reply(7, 9)
                .write(&mut frame, &[0x5a; 56])
        } else {
            packet
                .icmpv6_echo_request(7, 9)
                .write(&mut frame, &[0x5a; 56])
        }
        .unwrap();
        frame
    };
    run(vec![
        Case::new(
            "IPv4",
            echo4([A, GATEWAY], [A_IP, GATEWAY_IP], 17, false),
            REDIRECT,
            Counters::new(),
        )
        .leaving(echo4([GATEWAY, A], [GATEWAY_IP, A_IP], 64, true)),
        Case::new(
            "IPv6",
            echo6([A, GATEWAY], [A_IP6, GATEWAY_IP6], 17, false),
            REDIRECT,
            Counters::new(),
        )
        .leaving(echo6([GATEWAY, A], [GATEWAY_IP6, A_IP6], 64, true)),
    ]);
}

#[test]
fn refuses_what_no_container_sends() {
    let drop = |what, frame, reason| Case::new(what, frame, SHOT, dropped(VNI, 0, Tx, reason));
    let udp_to = |ip: [u8; 4], port| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(A.0, B.0)
            .ipv4(A_IP, ip, 64)
            .udp(1000, port)
            .write(&mut frame, &[0; 50])
            .unwrap();
        frame
    };
    let udp6_to = |from, ip: [u8; 16], port| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(A.0, B.0)
            .ipv6(from, ip, 64)
            .udp(1000, port)
            .write(&mut frame, &[0; 50])
            .unwrap();
        frame
    };
    let mut options = udp_to(VTEP_IP, PORT);
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 1]);
    let mut not_ip = udp_to(B_IP, 1);
    not_ip[14] = 0x65;
    let mut not_ip6 = udp6_to(A_IP6, B_IP6, 1);
    not_ip6[14] = 0x40;
    let mut spoofed = udp_to(B_IP, 1);
    spoofed[29] = 9;
    run(vec![
        drop(
            "VXLAN to this host",
            udp_to(VTEP_IP, PORT),
            DropReason::VtepPort,
        ),
        drop(
            "VXLAN to a peer",
            udp_to([192, 0, 2, 2], PORT),
            DropReason::VtepPort,
        ),
        drop("the same behind options", options, DropReason::VtepPort),
        drop(
            "the same over IPv6",
            udp6_to(A_IP6, v6(VTEP_IP), PORT),
            DropReason::VtepPort,
        ),
        drop("another's IPv4 address", spoofed, DropReason::SourceIp),
        drop(
            "another's IPv6 address",
            udp6_to(B_IP6, A2_IP6, 1),
            DropReason::SourceIp,
        ),
        drop(
            "nobody's IPv6 address",
            udp6_to(UNSPECIFIED, A2_IP6, 1),
            DropReason::SourceIp,
        ),
        drop("version 6 of IPv4", not_ip, DropReason::BadInner),
        drop("version 4 of IPv6", not_ip6, DropReason::BadInner),
        drop("MPLS", ethernet(A, B, 0x8847, &[0; 46]), DropReason::Mpls),
    ]);
}

#[test]
fn without_the_program_nothing_passes() {
    let mut programs = Programs::load();
    programs.remove_exception_program();
    let run = programs.classify(FROM_ENDPOINT, &solicitation(B_IP6), 0);
    assert_eq!(run.verdict, SHOT);
    assert_eq!(
        programs.counters(),
        dropped(VNI, 0, Tx, DropReason::NoProgram)
    );
}
