//! Outer source ports as a NIC's receive-side scaling sees them.

use std::net::Ipv4Addr;

use overlay_common::maps::FROM_ENDPOINT;

use super::fixture::{A, B, Programs};
use super::frames::udp;

const FLOWS: u16 = 4096;
/// Most queues that the flows are spread over: of so many flows each has 256, more or less 16.
const QUEUES: usize = 16;
const OUTER_SOURCE_IP: usize = 26;

/// The key that most drivers come with (Microsoft, "Verifying the RSS hash calculation").
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The Toeplitz hash: the exclusive or of the key's 32 bits at each bit of the input that is set.
fn toeplitz(input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let window = |at: usize| (0..32).fold(0u32, |w, i| w << 1 | u32::from(bit(&KEY, at + i)));
    let set = (0..8 * input.len()).filter(|at| bit(input, *at) == 1);
    set.fold(0, |hash, at| hash ^ window(at))
}

/// Source and destination address, source and destination port, as they are on the wire.
fn tuple(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
    let [from, to] = ports.map(u16::to_be_bytes);
    [&source[..], &destination, &from, &to].concat()
}

#[test]
fn the_hash_is_that_of_the_specification() {
    let known = [
        (
            [66, 9, 149, 187],
            [161, 142, 100, 80],
            [2794, 1766],
            0x51cc_c178,
        ),
        (
            [199, 92, 111, 2],
            [65, 69, 140, 83],
            [14230, 4739],
            0xc626_b0ea,
        ),
    ];
    for (source, destination, ports, hash) in known {
        let input = tuple(source, destination, ports);
        assert_eq!(toeplitz(&input), hash, "{}", Ipv4Addr::from(source));
    }
}

#[test]
fn flows_spread_over_queues() {
    let programs = Programs::load();
    let mut queues = [0u32; QUEUES];
    for flow in 0..FLOWS {
        let mut frame = udp(A, B, 100);
        frame[34..36].copy_from_slice(&flow.to_be_bytes());
        let sent = programs.classify(FROM_ENDPOINT, &frame, 0).frame;
        let input = &sent[OUTER_SOURCE_IP..OUTER_SOURCE_IP + 12];
        // An indirection table of 128 entries that hands the queues out in turn.
        queues[toeplitz(input) as usize % 128 % QUEUES] += 1;
    }
    let mean = f64::from(FLOWS) / QUEUES as f64;
    let fullest = f64::from(*queues.iter().max().expect("queues")) / mean;
    println!("the fullest of {QUEUES} queues has {fullest:.2} of the mean: {queues:?}");
    // Five standard deviations.
    assert!(fullest < 1.31, "{fullest:.2} of the mean: {queues:?}");
}
