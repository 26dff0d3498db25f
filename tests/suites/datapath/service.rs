//! The service address: questions to the agent through `endpoint_exception`, its answers through
//! `from_service`.

use etherparse::{IpFragOffset, PacketBuilder, icmpv4};
use overlay_common::Direction::Tx;
use overlay_common::DropReason;
use overlay_common::decide::service::{SERVICE_IP, token};
use overlay_common::layout::{AllowedKey, endpoint_flags};
use overlay_common::maps::{FROM_ENDPOINT, FROM_SERVICE};
use overlay_common::net::{IpKey, MacAddr};

use super::case::{Case, REDIRECT, SHOT, check_one};
use super::fixture::{
    A, A_IP, B, B_IP, Counters, GATEWAY, GATEWAY_IP, LOOPBACK, Programs, VNI, dropped,
};
use super::frames::arp;

/// What A may send from besides.
const ALLOWED_IP: [u8; 4] = [10, 9, 0, 1];
const SERVICE_MAC: MacAddr = MacAddr::of_gateway(VNI);

fn all(programs: &Programs, program: &str, cases: Vec<Case>) {
    for case in cases {
        let run = |programs: &Programs, case: &Case| programs.classify(program, &case.frame, 0);
        check_one(programs, &case, run).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Udp,
    /// Without a checksum, which UDP may be.
    UdpUnchecked,
    Tcp,
    Echo,
    /// The second fragment of UDP.
    Fragment,
}

/// A frame of 60 bytes of payload.
fn frame(kind: Kind, macs: [MacAddr; 2], ips: [[u8; 4]; 2]) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(macs[0].0, macs[1].0).ipv4(ips[0], ips[1], 64);
    let (mut frame, payload) = (Vec::new(), [0x5a; 60]);
    match kind {
        Kind::Udp | Kind::UdpUnchecked | Kind::Fragment => {
            packet.udp(1000, 53).write(&mut frame, &payload)
        }
        Kind::Tcp => packet.tcp(1000, 53, 1, 1000).write(&mut frame, &payload),
        Kind::Echo => packet.icmpv4_echo_request(7, 9).write(&mut frame, &payload),
    }
    .unwrap();
    match kind {
        Kind::UdpUnchecked => frame[40..42].fill(0),
        Kind::Fragment => {
            let ip = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap();
            let mut ip = ip.to_header();
            ip.fragment_offset = IpFragOffset::try_new(100).unwrap();
            ip.header_checksum = ip.calc_header_checksum();
            frame[14..34].copy_from_slice(&ip.to_bytes());
            // What is there is no checksum.
            frame[34..].fill(0x5a);
        }
        Kind::Udp | Kind::Tcp | Kind::Echo => {}
    }
    frame
}

fn asked(kind: Kind) -> Vec<u8> {
    frame(kind, [A, SERVICE_MAC], [A_IP, SERVICE_IP])
}

const KINDS: [(&str, Kind); 5] = [
    ("UDP", Kind::Udp),
    ("UDP without a checksum", Kind::UdpUnchecked),
    ("TCP", Kind::Tcp),
    ("an echo request", Kind::Echo),
    ("a later fragment", Kind::Fragment),
];

#[test]
fn the_address_is_answered_for() {
    let request = arp(A, MacAddr::BROADCAST, 1, A_IP, SERVICE_IP);
    let mut reply = arp(SERVICE_MAC, A, 2, SERVICE_IP, A_IP);
    reply[32..38].copy_from_slice(&A.0);
    let case = Case::new("ARP", request, REDIRECT, Counters::new()).leaving(reply);
    all(&Programs::load(), FROM_ENDPOINT, vec![case]);
}

#[test]
fn questions_carry_the_token_of_who_asks() {
    let mut programs = Programs::load();
    programs.set_service(LOOPBACK);
    let from = token(LOOPBACK).unwrap();
    let cases = KINDS.map(|(what, kind)| {
        let after = frame(kind, [A, SERVICE_MAC], [from, SERVICE_IP]);
        Case::new(what, asked(kind), REDIRECT, Counters::new()).leaving(after)
    });
    all(&programs, FROM_ENDPOINT, cases.into());
}

/// A resolver that is told so asks its next server at once.
#[test]
fn without_an_agent_the_port_is_unreachable() {
    let told = |frame: &[u8]| {
        let error = icmpv4::DestUnreachableHeader::Port;
        let packet = PacketBuilder::ethernet2(GATEWAY.0, A.0);
        let mut answer = Vec::new();
        let ip = etherparse::Ipv4Header {
            dscp: etherparse::IpDscp::try_new(48).unwrap(),
            time_to_live: 64,
            protocol: etherparse::IpNumber::ICMP,
            source: GATEWAY_IP,
            destination: A_IP,
            dont_fragment: false,
            ..etherparse::Ipv4Header::default()
        };
        packet
            .ip(etherparse::IpHeaders::Ipv4(ip, Default::default()))
            .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(error))
            .write(&mut answer, &frame[14..])
            .unwrap();
        answer
    };
    let drop = || dropped(VNI, 0, Tx, DropReason::NoService);
    let cases = [("UDP", Kind::Udp), ("TCP", Kind::Tcp)].map(|(what, kind)| {
        let asked = asked(kind);
        let told = told(&asked);
        Case::new(what, asked, REDIRECT, drop()).leaving(told)
    });
    all(&Programs::load(), FROM_ENDPOINT, cases.into());
}

/// What the agent would answer has one place to go to: the address of the endpoint.
#[test]
fn only_the_endpoint_itself_asks() {
    let mut programs = Programs::load();
    programs.set_service(LOOPBACK);
    programs.change_world(|world| {
        let endpoint = world.endpoints.get_mut(&LOOPBACK).expect("A");
        endpoint.flags |= endpoint_flags::ALLOWED;
        let (ifindex, ip) = (LOOPBACK, IpKey::v4(ALLOWED_IP));
        world.allowed.insert((128, AllowedKey { ifindex, ip }), 1);
    });
    let drop = |what, frame, reason| Case::new(what, frame, SHOT, dropped(VNI, 0, Tx, reason));
    let asked = |macs, ips| frame(Kind::Udp, macs, ips);
    let cases = vec![
        drop(
            "from another's address",
            asked([A, SERVICE_MAC], [B_IP, SERVICE_IP]),
            DropReason::SourceIp,
        ),
        drop(
            "from an address that is allowed besides",
            asked([A, SERVICE_MAC], [ALLOWED_IP, SERVICE_IP]),
            DropReason::Unroutable,
        ),
        drop(
            "another address at its MAC",
            asked([A, SERVICE_MAC], [A_IP, [169, 254, 53, 54]]),
            DropReason::Unroutable,
        ),
        drop(
            "to nobody's MAC",
            asked([A, MacAddr([2; 6])], [A_IP, SERVICE_IP]),
            DropReason::UnknownDestination,
        ),
    ];
    all(&programs, FROM_ENDPOINT, cases);
}

#[test]
fn answers_go_to_who_has_asked() {
    let programs = Programs::load();
    let to = token(LOOPBACK).unwrap();
    let cases = KINDS.map(|(what, kind)| {
        let answer = frame(
            kind,
            [MacAddr([6; 6]), MacAddr::default()],
            [SERVICE_IP, to],
        );
        let after = frame(kind, [SERVICE_MAC, A], [SERVICE_IP, A_IP]);
        Case::new(what, answer, REDIRECT, Counters::new()).leaving(after)
    });
    all(&programs, FROM_SERVICE, cases.into());
}

#[test]
fn nothing_else_gets_out_of_the_agent() {
    let nobody = || dropped(0, 0, Tx, DropReason::ServiceAnswer);
    let drop = |what, frame| Case::new(what, frame, SHOT, nobody());
    let answer = |ips| frame(Kind::Udp, [MacAddr([6; 6]), MacAddr::default()], ips);
    let cases = vec![
        drop(
            "to an interface of nobody",
            answer([SERVICE_IP, token(999).unwrap()]),
        ),
        drop("to an endpoint's own address", answer([SERVICE_IP, A_IP])),
        drop(
            "from another address",
            answer([B_IP, token(LOOPBACK).unwrap()]),
        ),
        drop("ARP", arp(A, B, 1, SERVICE_IP, A_IP)),
    ];
    all(&Programs::load(), FROM_SERVICE, cases);
}
