//! Decapsulation and the outer congestion mark (RFC 6040, section 4.2), in all four combinations
//! of families.

use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};
use overlay_common::Direction::Rx;
use overlay_common::DropReason;
use overlay_common::maps::FROM_UNDERLAY;

use super::case::{Case, REDIRECT, SHOT, XDP_DROP, XDP_PASS, check_one};
use super::fixture::{A, A_IP, B, B_IP, Counters, Programs, Run, VNI, dropped, received};
use super::frames::{Over, Tunnelled};
use super::xdp_decap;

const DSCP: u8 = 0xb8;

fn inner(family: Over, tos: u8) -> Vec<u8> {
    let headers = match family {
        Over::V4 => {
            let mut ip = Ipv4Header::new(0, 0, IpNumber::TCP, A_IP, B_IP).unwrap();
            ip.dscp = (tos >> 2).try_into().unwrap();
            ip.ecn = (tos & 3).try_into().unwrap();
            IpHeaders::Ipv4(ip, Default::default())
        }
        Over::V6 => {
            let ip = Ipv6Header {
                traffic_class: tos,
                flow_label: 0x5_4321.try_into().unwrap(),
                source: [0xfd; 16],
                destination: [0xfc; 16],
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(ip, Default::default())
        }
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(B.0, A.0)
        .ip(headers)
        .tcp(1000, 2000, 1, 1000)
        .write(&mut frame, &[0x5a; 33])
        .unwrap();
    frame
}

/// Figure 4 of RFC 6040: inner, outer, what arrives; `None` is a drop.
const FIGURE_4: [(u8, u8, Option<u8>); 16] = [
    (0b00, 0b00, Some(0b00)),
    (0b00, 0b10, Some(0b00)),
    (0b00, 0b01, Some(0b00)),
    (0b00, 0b11, None),
    (0b10, 0b00, Some(0b10)),
    (0b10, 0b10, Some(0b10)),
    (0b10, 0b01, Some(0b01)),
    (0b10, 0b11, Some(0b11)),
    (0b01, 0b00, Some(0b01)),
    (0b01, 0b10, Some(0b01)),
    (0b01, 0b01, Some(0b01)),
    (0b01, 0b11, Some(0b11)),
    (0b11, 0b00, Some(0b11)),
    (0b11, 0b10, Some(0b11)),
    (0b11, 0b01, Some(0b11)),
    (0b11, 0b11, Some(0b11)),
];

/// A hook that takes frames out of their tunnel.
struct Hook {
    run: fn(&Programs, &Case) -> Run,
    delivers: i32,
    drops: i32,
    /// Of an inner frame of this many bytes.
    counts: fn(usize) -> Counters,
}

#[test]
fn marks_are_merged() {
    figure_4_holds(
        &Programs::load(),
        &Hook {
            run: |programs, case| programs.classify(FROM_UNDERLAY, &case.frame, 0),
            delivers: REDIRECT,
            drops: SHOT,
            counts: |len| received(1, len),
        },
    );
}

#[test]
fn marks_are_merged_in_xdp() {
    figure_4_holds(
        &xdp_decap::programs(),
        &Hook {
            run: |programs, case| programs.filter(&case.frame),
            delivers: XDP_PASS,
            drops: XDP_DROP,
            counts: |_| Counters::new(),
        },
    );
}

fn figure_4_holds(programs: &Programs, hook: &Hook) {
    let mut failures = Vec::new();
    for over in Over::BOTH {
        for family in Over::BOTH {
            for (mark, outer, expected) in FIGURE_4 {
                let before = inner(family, DSCP | mark);
                let frame = Tunnelled {
                    inner: before.clone(),
                    // The outer DSCP is the underlay's own affair.
                    tos: 0x28 | outer,
                    ..Tunnelled::default()
                }
                .over(over);
                let case = match expected {
                    Some(after) => {
                        let counters = (hook.counts)(before.len());
                        Case::new("delivered", frame, hook.delivers, counters)
                            .leaving(inner(family, DSCP | after))
                    }
                    None => {
                        let counters = dropped(VNI, 1, Rx, DropReason::Congestion);
                        Case::new("dropped", frame, hook.drops, counters)
                    }
                };
                if let Err(error) = check_one(programs, &case, hook.run) {
                    failures.push(format!(
                        "{outer:02b} {over:?} over {mark:02b} {family:?}: {error}"
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
