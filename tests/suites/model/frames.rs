//! Well-formed frames of every kind, with addresses that the tables know and some that they do not.

use etherparse::PacketBuilder;
use overlay_common::decide::service::SERVICE_IP;
use overlay_common::net::MacAddr;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::mutate;
use crate::datapath::fixture::{
    A, A_IP, A_IP6, A2, A2_FAR, A2_FAR6, A2_IP, A2_IP6, B, B_FAR, B_FAR6, B_IP, B_IP6, C, D,
    GATEWAY, GATEWAY_IP, GATEWAY_IP6, OTHER_VNI, PEER1_IP, PEER2_IP, PEER3_IP, PORT, STALE_FAR,
    VNI, VTEP_IP,
};
use crate::datapath::frames::{Tunnelled, arp, ethernet};

const MACS: [MacAddr; 12] = [
    A,
    A2,
    B,
    C,
    D,
    GATEWAY,
    GATEWAY,
    MacAddr::BROADCAST,
    MacAddr([1, 0, 0x5e, 0, 0, 1]),
    MacAddr([0x33, 0x33, 0, 0, 0, 1]),
    MacAddr([2; 6]),
    MacAddr::of_gateway(VNI),
];
const IPS: [[u8; 4]; 13] = [
    A_IP,
    A2_IP,
    B_IP,
    A2_FAR,
    B_FAR,
    STALE_FAR,
    GATEWAY_IP,
    [10, 0, 0, 99],
    PEER1_IP,
    VTEP_IP,
    [224, 0, 0, 1],
    [0; 4],
    SERVICE_IP,
];
const OUTER_IPS: [[u8; 4]; 5] = [PEER1_IP, PEER2_IP, PEER3_IP, VTEP_IP, [198, 51, 100, 1]];
const VNIS: [u32; 5] = [VNI, OTHER_VNI, 0, 99, 0xff_ffff];

/// The usual one most of the time, else one of `others`.
fn mostly<T: Copy>(rng: &mut StdRng, usual: T, others: &[T]) -> T {
    if rng.random_bool(0.92) {
        return usual;
    }
    *others.choose(rng).unwrap()
}

/// A frame as a container sends it, most often from the given MAC.
pub(super) fn inner(rng: &mut StdRng, sender: MacAddr) -> Vec<u8> {
    let source = mostly(rng, sender, &MACS);
    let destination = *MACS.choose(rng).unwrap();
    match rng.random_range(0..10) {
        0..5 => ipv4(rng, source, destination),
        5..7 => ipv6(rng, source, destination),
        7..9 => {
            let operation = rng.random_range(1..3);
            let (from, to) = (*IPS.choose(rng).unwrap(), *IPS.choose(rng).unwrap());
            arp(source, destination, operation, from, to)
        }
        _ => {
            const ETHERTYPES: [u16; 7] = [0x8100, 0x88a8, 0x8847, 0x88b5, 46, 0x0800, 0x86dd];
            let ethertype = *ETHERTYPES.choose(rng).unwrap();
            let mut payload = vec![0; rng.random_range(0..64)];
            rng.fill(&mut payload[..]);
            ethernet(source, destination, ethertype, &payload)
        }
    }
}

fn payload(rng: &mut StdRng) -> Vec<u8> {
    let longest = *[0, 40, 200, 1450, 3000].choose(rng).unwrap();
    vec![rng.random(); rng.random_range(0..=longest)]
}

fn ipv4(rng: &mut StdRng, source: MacAddr, destination: MacAddr) -> Vec<u8> {
    let (from, to) = (*IPS.choose(rng).unwrap(), *IPS.choose(rng).unwrap());
    let ttl = mostly(rng, 64, &[0, 1, 255]);
    let packet = PacketBuilder::ethernet2(source.0, destination.0).ipv4(from, to, ttl);
    let payload = payload(rng);
    let mut frame = Vec::new();
    match rng.random_range(0..4) {
        0 => packet
            .tcp(rng.random(), 80, rng.random(), 1000)
            .write(&mut frame, &payload),
        1 => packet.icmpv4_echo_request(1, 2).write(&mut frame, &payload),
        _ => {
            let port = mostly(rng, 2000, &[PORT, 67, 5353]);
            packet.udp(rng.random(), port).write(&mut frame, &payload)
        }
    }
    .unwrap();
    // A fragment, or another protocol.
    match rng.random_range(0..12) {
        0 => frame[20] = 0x20,
        1 => frame[21] = 8,
        2 => frame[23] = *[1, 2, 47, 50, 132].choose(rng).unwrap(),
        3 => frame[15] = rng.random(),
        _ => return frame,
    }
    mutate::fix_ipv4_checksum(&mut frame);
    frame
}

fn ipv6(rng: &mut StdRng, source: MacAddr, destination: MacAddr) -> Vec<u8> {
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0xa];
    let mut all_nodes = [0; 16];
    (all_nodes[0], all_nodes[1], all_nodes[15]) = (0xff, 2, 1);
    let ips = [
        A_IP6,
        A2_IP6,
        B_IP6,
        A2_FAR6,
        B_FAR6,
        GATEWAY_IP6,
        [0xfc; 16],
        link_local,
        all_nodes,
        [0; 16],
    ];
    let (from, to) = (mostly(rng, A_IP6, &ips), *ips.choose(rng).unwrap());
    if rng.random_bool(0.2) {
        let target = *ips.choose(rng).unwrap();
        return discovery(rng, [source, destination], [from, to], target);
    }
    let hops = mostly(rng, 64, &[0, 1, 255]);
    let packet = PacketBuilder::ethernet2(source.0, destination.0).ipv6(from, to, hops);
    let payload = payload(rng);
    let mut frame = Vec::new();
    match rng.random_range(0..4) {
        0 => packet
            .tcp(rng.random(), 80, rng.random(), 1000)
            .write(&mut frame, &payload),
        1 => packet.udp(rng.random(), 2000).write(&mut frame, &payload),
        2 if rng.random() => packet.icmpv6_echo_request(1, 2).write(&mut frame, &payload),
        // Router and neighbour discovery are 133 to 137.
        2 => packet
            .icmpv6_raw(rng.random_range(128..138), 0, [0; 4])
            .write(&mut frame, &payload),
        _ => {
            // Behind an extension header: hop-by-hop, routing, fragment, destination options.
            packet
                .udp(rng.random(), 2000)
                .write(&mut frame, &payload)
                .unwrap();
            let next = *[0u8, 43, 44, 60].choose(rng).unwrap();
            let after = std::mem::replace(&mut frame[20], next);
            frame.splice(54..54, [after, 0, 0, 0, 1, 4, 0, 0]);
            let len = (frame.len() - 54) as u16;
            frame[18..20].copy_from_slice(&len.to_be_bytes());
            Ok(())
        }
    }
    .unwrap();
    frame
}

/// A neighbour solicitation or advertisement, well-formed most of the time.
fn discovery(
    rng: &mut StdRng,
    [source, destination]: [MacAddr; 2],
    [from, to]: [[u8; 16]; 2],
    target: [u8; 16],
) -> Vec<u8> {
    let solicits = rng.random_bool(0.7);
    let (kind, option) = if solicits { (135, 1) } else { (136, 2) };
    let mut rest = target.to_vec();
    if rng.random_bool(0.8) {
        rest.extend([mostly(rng, option, &[1, 2, 14]), mostly(rng, 1, &[0, 2])]);
        rest.extend(mostly(rng, source, &MACS).0);
    }
    let hops = mostly(rng, 255, &[64, 1]);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source.0, destination.0)
        .ipv6(from, to, hops)
        .icmpv6_raw(kind, 0, [0; 4])
        .write(&mut frame, &rest)
        .unwrap();
    frame
}

/// A frame on the underlay: VXLAN for this host, most often from a peer, whole or damaged inside or
/// outside, its outer checksum right more often than not.
pub(super) fn outer(rng: &mut StdRng) -> Vec<u8> {
    if rng.random_bool(0.02) {
        return inner(rng, A);
    }
    let source = mostly(rng, PEER1_IP, &OUTER_IPS);
    let sender = match source {
        PEER2_IP => C,
        PEER3_IP => D,
        _ => B,
    };
    let mut content = inner(rng, sender);
    if rng.random_bool(0.7) {
        // Most that arrives is for somebody here.
        content[..6].copy_from_slice(&[A, A2].choose(rng).unwrap().0);
    }
    content = mutate::sometimes(rng, content);
    content.truncate(mutate::LONGEST - 100);
    let mut frame = Tunnelled {
        inner: content,
        source,
        destination: mostly(rng, VTEP_IP, &OUTER_IPS),
        port: mostly(rng, PORT, &[8472, 0]),
        flags: mostly(rng, 8, &[0, 0xff, 0xf7, 0x88]),
        vni: mostly(rng, VNI, &VNIS),
        checksum: mostly(rng, 0, &[0xffff, 1]),
        tos: mostly(rng, 0, &[1, 2, 3, 0xb8]),
    }
    .build();
    match rng.random_range(0..40) {
        // Options.
        0 => {
            frame[14] = 0x46;
            frame.splice(34..34, [1, 1, 1, 1]);
            let total = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
        }
        // First, later and last fragment.
        1 => frame[20] = 0x20,
        2 => frame[21] = 8,
        // Lengths that lie.
        3 => frame[17] = frame[17].wrapping_add(rng.random_range(0..8)),
        4 => frame[39] = frame[39].wrapping_sub(rng.random_range(0..8)),
        // A padded frame.
        5 => frame.push(0),
        // Another host's, everybody's.
        6 => frame[0] = rng.random_range(1..4),
        _ => (),
    }
    mutate::fix_ipv4_checksum(&mut frame);
    let mut frame = mutate::sometimes(rng, frame);
    if rng.random_bool(0.7) {
        mutate::fix_ipv4_checksum(&mut frame);
    }
    frame
}

/// What a process of the host sends out of the underlay device.
pub(super) fn from_host(rng: &mut StdRng) -> Vec<u8> {
    if rng.random() {
        return outer(rng);
    }
    let mut frame = Tunnelled {
        inner: inner(rng, A),
        source: VTEP_IP,
        destination: mostly(
            rng,
            PEER1_IP,
            &[PEER2_IP, [239, 1, 1, 1], [198, 51, 100, 1]],
        ),
        port: mostly(rng, PORT, &[8472]),
        ..Tunnelled::default()
    }
    .build();
    frame.truncate(mutate::LONGEST);
    mutate::sometimes(rng, frame)
}
