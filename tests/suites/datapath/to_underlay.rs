//! What processes of the host may send.

use etherparse::PacketBuilder;
use overlay_common::maps::TO_UNDERLAY;
use overlay_common::{Direction, DropReason};

use super::fixture::{Counters, PEER1_IP, PORT, Programs, VTEP_IP, dropped, v6};

/// `TCX_NEXT` and `TC_ACT_SHOT` of `linux/bpf.h` and `linux/pkt_cls.h`.
const NEXT: i32 = -1;
const SHOT: i32 = 2;

struct Case {
    name: &'static str,
    frame: Vec<u8>,
    verdict: i32,
    counters: Counters,
}

#[test]
fn only_vxlan_to_peers_is_refused() {
    let datagram = |to: [u8; 4], port: u16| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([0; 6], [2; 6])
            .ipv4(VTEP_IP, to, 64)
            .udp(50000, port)
            .write(&mut frame, &[0; 30])
            .unwrap();
        frame
    };
    let tcp = {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([0; 6], [2; 6])
            .ipv4(VTEP_IP, PEER1_IP, 64)
            .tcp(50000, PORT, 1, 1)
            .write(&mut frame, &[])
            .unwrap();
        frame
    };
    let datagram6 = |to: [u8; 4], port: u16| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([0; 6], [2; 6])
            .ipv6(v6(VTEP_IP), v6(to), 64)
            .udp(50000, port)
            .write(&mut frame, &[0; 30])
            .unwrap();
        frame
    };
    // Behind an extension header.
    let behind = |next: u8, header: &[u8], mut frame: Vec<u8>| {
        frame[20] = next;
        frame.splice(54..54, header.iter().copied());
        frame[19] += header.len() as u8;
        frame
    };
    let first = [17, 0, 0, 1, 0, 0, 0, 7];
    let later = [17, 0, 0, 8, 0, 0, 0, 7];
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    // 168 bytes, of which the programs see no end.
    let endless = [&[17, 20][..], &[0; 166]].concat();
    let mut later_fragment = datagram(PEER1_IP, PORT);
    later_fragment[21] = 1;
    let forged = |peer| dropped(0, peer, Direction::Tx, DropReason::Forged);
    let pass = |name, frame| Case {
        name,
        frame,
        verdict: NEXT,
        counters: Counters::new(),
    };
    let cases = [
        Case {
            name: "to a peer",
            frame: datagram(PEER1_IP, PORT),
            verdict: SHOT,
            counters: forged(1),
        },
        Case {
            name: "to a group",
            frame: datagram([239, 1, 1, 1], PORT),
            verdict: SHOT,
            counters: forged(0),
        },
        Case {
            name: "to a peer over IPv6",
            frame: datagram6(PEER1_IP, PORT),
            verdict: SHOT,
            counters: forged(1),
        },
        Case {
            name: "the first fragment over IPv6",
            frame: behind(44, &first, datagram6(PEER1_IP, PORT)),
            verdict: SHOT,
            counters: forged(1),
        },
        Case {
            name: "behind options over IPv6",
            frame: behind(60, &options, datagram6(PEER1_IP, PORT)),
            verdict: SHOT,
            counters: forged(1),
        },
        Case {
            name: "behind more than is looked at",
            frame: behind(60, &endless, datagram6(PEER1_IP, PORT + 1)),
            verdict: SHOT,
            counters: forged(1),
        },
        pass(
            "a later fragment over IPv6",
            behind(44, &later, datagram6(PEER1_IP, PORT)),
        ),
        pass("to another port over IPv6", datagram6(PEER1_IP, PORT + 1)),
        pass("to a stranger over IPv6", datagram6([192, 0, 2, 77], PORT)),
        pass("to another port", datagram(PEER1_IP, PORT + 1)),
        pass("to a stranger", datagram([192, 0, 2, 77], PORT)),
        pass("no UDP", tcp),
        pass("a later fragment", later_fragment),
        pass("cut short", datagram(PEER1_IP, PORT)[..40].to_vec()),
    ];
    let mut programs = Programs::load();
    for case in cases {
        programs.reset();
        let run = programs.classify(TO_UNDERLAY, &case.frame, 0);
        assert_eq!(run.verdict, case.verdict, "{}", case.name);
        assert_eq!(run.frame, case.frame, "{}", case.name);
        assert_eq!(programs.counters(), case.counters, "{}", case.name);
    }
}

/// What the host forwards is its own business, unless it goes out under the host's address (NAT).
#[test]
fn forwarded_vxlan_is_refused_under_the_hosts_address_only() {
    let from = |source: [u8; 4], over_ipv6: bool| {
        let packet = PacketBuilder::ethernet2([0; 6], [2; 6]);
        let packet = if over_ipv6 {
            packet.ipv6(v6(source), v6(PEER1_IP), 64)
        } else {
            packet.ipv4(source, PEER1_IP, 64)
        };
        let mut frame = Vec::new();
        packet.udp(50000, PORT).write(&mut frame, &[0; 30]).unwrap();
        frame
    };
    let mut programs = Programs::load();
    for over_ipv6 in [false, true] {
        for (source, verdict) in [(VTEP_IP, SHOT), ([192, 0, 2, 77], NEXT)] {
            programs.reset();
            let frame = from(source, over_ipv6);
            let run = programs.classify_forwarded(TO_UNDERLAY, &frame);
            assert_eq!(run.verdict, verdict, "{source:?} {over_ipv6}");
            let counters = if verdict == SHOT {
                dropped(0, 1, Direction::Tx, DropReason::Forged)
            } else {
                Counters::new()
            };
            assert_eq!(programs.counters(), counters, "{source:?} {over_ipv6}");
        }
    }
}
