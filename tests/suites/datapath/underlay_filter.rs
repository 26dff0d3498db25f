//! `underlay_filter`, the XDP program.

use overlay_common::Direction::Rx;
use overlay_common::DropReason;

use super::case::{Case, XDP_DROP, XDP_PASS, check};
use super::fixture::{A, B};
use super::fixture::{Counters, dropped};
use super::frames::{Tunnelled, fix_ip_checksum, udp};

#[test]
fn verdicts() {
    let good = Tunnelled::default().build();
    let none = Counters::new;
    let pass = |what, frame| Case::new(what, frame, XDP_PASS, none());
    let drop =
        |what, frame, peer, reason| Case::new(what, frame, XDP_DROP, dropped(0, peer, Rx, reason));
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        fix_ip_checksum(&mut frame);
        frame
    };

    let mut bad_checksum = good.clone();
    bad_checksum[25] ^= 1;
    let mut no_vxlan_header = good[..14 + 20 + 8].to_vec();
    no_vxlan_header[16..18].copy_from_slice(&28u16.to_be_bytes());
    no_vxlan_header[38..40].copy_from_slice(&8u16.to_be_bytes());
    fix_ip_checksum(&mut no_vxlan_header);

    check(
        vec![
            pass("a frame of a peer on a known VNI", good.clone()),
            pass("plain traffic", udp(A, B, 100)),
            pass("ARP", super::frames::arp(A, B, 1, [1; 4], [2; 4])),
            pass(
                "VXLAN for another address",
                Tunnelled {
                    destination: [192, 0, 2, 9],
                    ..Tunnelled::default()
                }
                .build(),
            ),
            pass(
                "another port",
                Tunnelled {
                    port: 8472,
                    ..Tunnelled::default()
                }
                .build(),
            ),
            pass("a first fragment", changed(20, 0x20)),
            pass("a later fragment", changed(21, 0x10)),
            drop(
                "unknown sender",
                Tunnelled {
                    source: [198, 51, 100, 1],
                    ..Tunnelled::default()
                }
                .build(),
                0,
                DropReason::UnknownPeer,
            ),
            drop(
                "our own address as sender",
                Tunnelled {
                    source: super::fixture::VTEP_IP,
                    ..Tunnelled::default()
                }
                .build(),
                0,
                DropReason::OwnSource,
            ),
            drop(
                "unknown VNI",
                Tunnelled {
                    vni: 99,
                    ..Tunnelled::default()
                }
                .build(),
                1,
                DropReason::UnknownVni,
            ),
            drop(
                "I flag clear",
                Tunnelled {
                    flags: 0xf7,
                    ..Tunnelled::default()
                }
                .build(),
                0,
                DropReason::NoVni,
            ),
            drop(
                "bad IP checksum",
                bad_checksum,
                0,
                DropReason::OuterChecksum,
            ),
            drop("no VXLAN header", no_vxlan_header, 0, DropReason::Truncated),
            drop(
                "cut short",
                good[..good.len() - 1].to_vec(),
                0,
                DropReason::Truncated,
            ),
        ],
        |programs, case| programs.filter(&case.frame),
    );
}
