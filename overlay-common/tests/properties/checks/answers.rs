//! What the data path says in somebody's name: answers to ARP, neighbour solicitations and echo
//! requests, and ICMP errors. Another parser has to find them well-formed.

use etherparse::{ArpPacketSlice, Icmpv4Slice, NetSlice, SlicedPacket, TransportSlice};
use overlay_common::net::MacAddr;
use overlay_common::packet::arp::{Arp, Operation};
use overlay_common::packet::icmp::{
    ERROR_V4_LEN, ERROR_V6_LEN, Problem, ProblemKind, echo_v4, echo_v6, error_v4, error_v6,
    quote_len,
};
use overlay_common::packet::nd::{self, Neighbor};
use overlay_common::packet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Packet as _,
};

use super::input::{Head, Input};
use super::reference::{self, sums_up};
use super::world::{GATEWAY, GATEWAY_IP, GATEWAY_IP6, REMOTE};

pub fn check(data: &[u8]) {
    let Input { knobs, frame } = &Input::new(data);
    let Some(ethernet) = Ethernet::read(&frame[..], 0) else {
        return;
    };
    let problem = match knobs.gso_size >> 8 {
        0..80 => Problem {
            kind: ProblemKind::TooBig,
            mtu: 1450,
        },
        80..160 => Problem::TIME_EXCEEDED,
        160..200 => Problem::NO_SERVICE,
        _ => Problem::UNREACHABLE,
    };
    match ethernet.ethertype {
        ETHERTYPE_ARP => arp(frame),
        ETHERTYPE_IPV4 => {
            echo4(frame);
            error4(frame, ethernet, problem);
        }
        ETHERTYPE_IPV6 => {
            solicited(frame, ethernet);
            echo6(frame);
            error6(frame, ethernet, problem);
        }
        _ => {}
    }
}

fn arp(frame: &[u8]) {
    let reference = ArpPacketSlice::from_slice(&frame[14..]).ok().filter(|arp| {
        let sizes = (arp.hw_addr_size(), arp.proto_addr_size());
        let types = (arp.hw_addr_type().0, arp.proto_addr_type().0);
        sizes == (6, 4) && types == (1, 0x0800) && matches!(arp.operation().0, 1 | 2)
    });
    let read = Arp::read(frame, 14);
    assert_eq!(read.is_some(), reference.is_some());
    let (Some(read), Some(reference)) = (read, reference) else {
        return;
    };
    assert_eq!(
        read.operation == Operation::Request,
        reference.operation().0 == 1
    );
    assert_eq!(read.sender_mac.0, reference.sender_hw_addr());
    assert_eq!(read.sender_ip, reference.sender_protocol_addr());
    assert_eq!(read.target_ip, reference.target_protocol_addr());

    let reply = read.reply(REMOTE);
    let packet = SlicedPacket::from_ethernet(&reply).expect("a reply");
    let Some(NetSlice::Arp(reply)) = packet.net else {
        panic!("no ARP");
    };
    assert_eq!(reply.operation().0, 2);
    assert_eq!(reply.sender_hw_addr(), REMOTE.0);
    assert_eq!(reply.sender_protocol_addr(), read.target_ip);
    assert_eq!(reply.target_hw_addr(), read.sender_mac.0);
    assert_eq!(reply.target_protocol_addr(), read.sender_ip);
}

fn solicited(frame: &[u8], ethernet: Ethernet) {
    let Some(neighbor) = Neighbor::read(frame, 54, ethernet.source) else {
        return;
    };
    assert_eq!((frame[21], frame[54], frame[55]), (255, neighbor.kind, 0));
    let payload = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    assert!(payload >= 24 && 54 + payload <= frame.len(), "cut short");
    if neighbor.kind != nd::SOLICITATION {
        return;
    }
    let mut answer = [0; nd::FRAME_LEN];
    neighbor.advertisement(ethernet.source, REMOTE, true, &mut answer);
    let packet = SlicedPacket::from_ethernet(&answer).expect("an advertisement");
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) =
        (&packet.net, &packet.transport)
    else {
        panic!("no ICMPv6");
    };
    let ip = ip.header();
    assert!(
        icmp.is_checksum_valid(ip.source(), ip.destination()),
        "checksum"
    );
    assert_eq!(
        (ip.hop_limit(), icmp.type_u8(), icmp.code_u8()),
        (255, 136, 0)
    );
    assert_eq!(
        (ip.source(), icmp.payload()),
        (neighbor.target, &answer[62..])
    );
    let to = if neighbor.source == [0; 16] {
        [0x33, 0x33, 0, 0, 0, 1]
    } else {
        ethernet.source.0
    };
    assert_eq!(answer[..6], to);
}

/// The frame with its ends swapped and the answer's head and message in place.
fn echoed(frame: &[u8], head: &[u8], offset: usize, message: [u8; 4]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    answer[..head.len()].copy_from_slice(head);
    answer[offset..offset + 4].copy_from_slice(&message);
    assert_eq!((&answer[..6], &answer[6..12]), (&frame[6..12], &frame[..6]));
    answer
}

fn echo4(frame: &[u8]) {
    let answer = echo_v4(frame);
    assert_eq!(answer, echo_v4(&Head::new(frame)), "looks too far");
    let packet = reference::packet(frame);
    let asked = packet
        .as_ref()
        .and_then(|packet| match (&packet.net, &packet.transport) {
            (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp)))
                if (icmp.type_u8(), icmp.code_u8()) == (8, 0) && !ip.is_payload_fragmented() =>
            {
                Some((ip.header(), icmp.slice()))
            }
            _ => None,
        });
    let (Some(answer), Some((ip, icmp))) = (answer, asked) else {
        // Ours does not look at the total length, which changes nothing in the answer.
        assert!(
            asked.is_none() || answer.is_some(),
            "an echo request without answer"
        );
        return;
    };
    let right = (sums_up(ip.slice()), sums_up(icmp));
    let answer = echoed(frame, &answer.head, answer.offset, answer.message);
    let packet = SlicedPacket::from_ethernet(&answer).expect("an answer");
    let (Some(NetSlice::Ipv4(back)), Some(TransportSlice::Icmpv4(icmp))) =
        (&packet.net, &packet.transport)
    else {
        panic!("no ICMP");
    };
    let back = back.header();
    assert_eq!(
        (back.source(), back.destination()),
        (ip.destination(), ip.source())
    );
    assert_eq!((icmp.type_u8(), icmp.code_u8()), (0, 0));
    // What was wrong stays wrong.
    assert_eq!(
        (sums_up(back.slice()), sums_up(icmp.slice())),
        right,
        "checksums"
    );
}

fn echo6(frame: &[u8]) {
    let answer = echo_v6(frame);
    assert_eq!(answer, echo_v6(&Head::new(frame)), "looks too far");
    let reference = |frame: &[u8]| {
        let packet = reference::packet(frame)?;
        match (&packet.net, &packet.transport) {
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp)))
                if ip.extensions().is_empty() && icmp.code_u8() == 0 =>
            {
                let (from, to) = (ip.header().source(), ip.header().destination());
                Some((icmp.type_u8(), from, to, icmp.is_checksum_valid(from, to)))
            }
            _ => None,
        }
    };
    let asked = reference(frame).filter(|(kind, ..)| *kind == 128);
    let (Some(answer), Some((_, from, to, right))) = (answer, asked) else {
        assert!(
            asked.is_none() || answer.is_some(),
            "an echo request without answer"
        );
        return;
    };
    let answer = echoed(frame, &answer.head, answer.offset, answer.message);
    assert_eq!(reference(&answer), Some((129, to, from, right)));
}

fn error4(frame: &[u8], ethernet: Ethernet, problem: Problem) {
    let (mut bytes, mut same) = ([0; ERROR_V4_LEN], [0; ERROR_V4_LEN]);
    let error = error_v4(frame, ethernet, GATEWAY, GATEWAY_IP, problem, &mut bytes);
    let head = &Head::new(frame);
    let with_head = error_v4(head, ethernet, GATEWAY, GATEWAY_IP, problem, &mut same);
    assert_eq!((error, bytes), (with_head, same), "looks too far");
    if error.is_none() {
        return;
    }
    let error = quoting(&bytes, frame);
    let packet = SlicedPacket::from_ethernet(&error).expect("an error");
    let Some(NetSlice::Ipv4(ip)) = &packet.net else {
        panic!("no IPv4");
    };
    let icmp = Icmpv4Slice::from_slice(&error[34..]).expect("ICMP");
    assert!(
        sums_up(&error[14..34]) && sums_up(&error[34..]),
        "checksums"
    );
    assert_eq!(usize::from(ip.header().total_len()), error.len() - 14);
    assert_eq!(
        (
            ip.header().source(),
            MacAddr(error[6..12].try_into().unwrap())
        ),
        (GATEWAY_IP, GATEWAY)
    );
    assert!(matches!(icmp.type_u8(), 3 | 11));
    assert!(
        frame[0] & 1 == 0 && frame[26] < 224 && frame[30] < 224,
        "about a group"
    );
    if let Some(about) = reference::packet(frame)
        && let Some(TransportSlice::Icmpv4(about)) = about.transport
    {
        assert!(
            !matches!(about.type_u8(), 3 | 4 | 5 | 11 | 12),
            "an error about an error"
        );
    }
}

fn error6(frame: &[u8], ethernet: Ethernet, problem: Problem) {
    let (mut bytes, mut same) = ([0; ERROR_V6_LEN], [0; ERROR_V6_LEN]);
    let error = error_v6(frame, ethernet, GATEWAY, GATEWAY_IP6, problem, &mut bytes);
    let head = &Head::new(frame);
    let with_head = error_v6(head, ethernet, GATEWAY, GATEWAY_IP6, problem, &mut same);
    assert_eq!((error, bytes), (with_head, same), "looks too far");
    if error.is_none() {
        return;
    }
    let error = quoting(&bytes, frame);
    let packet = SlicedPacket::from_ethernet(&error).expect("an error");
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) =
        (&packet.net, &packet.transport)
    else {
        panic!("no ICMPv6");
    };
    let ip = ip.header();
    assert!(
        icmp.is_checksum_valid(ip.source(), ip.destination()),
        "checksum"
    );
    assert_eq!(usize::from(ip.payload_length()), error.len() - 54);
    assert_eq!((ip.source(), icmp.type_u8() < 128), (GATEWAY_IP6, true));
    assert!(error.len() - 14 <= 1280, "longer than the least MTU");
    if let Some(about) = reference::packet(frame)
        && let Some(TransportSlice::Icmpv6(about)) = about.transport
    {
        assert!(about.type_u8() >= 128, "an error about an error");
    }
}

/// The whole error: its headers and as much of the packet as is told back.
fn quoting(headers: &[u8], frame: &[u8]) -> Vec<u8> {
    let quote = &frame[14..14 + quote_len(frame.frame_len())];
    [headers, quote].concat()
}
