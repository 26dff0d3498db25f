//! What processes of the host may send.

use etherparse::PacketBuilder;
use overlay_common::maps::TO_UNDERLAY;
use overlay_common::{Direction, DropReason};

use super::fixture::{Counters, PEER1_IP, PORT, Programs, VTEP_IP, dropped};

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
