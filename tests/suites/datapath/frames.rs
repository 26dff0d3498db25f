//! Frames, built by another library than the one that reads them.

use etherparse::PacketBuilder;
use overlay_common::net::MacAddr;

use super::fixture::{A, A_IP, A_IP6, B, B_IP, PEER1_IP, PORT, VNI, VTEP_IP, v6};

/// The loopback device's own address: `BPF_PROG_TEST_RUN` takes frames for others for such.
const LOOPBACK_MAC: [u8; 6] = [0; 6];
pub const OUTER_LEN: usize = 50;

/// Inner UDP over IPv4 with `payload` bytes.
pub fn udp(source: MacAddr, destination: MacAddr, payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source.0, destination.0)
        .ipv4(A_IP, B_IP, 64)
        .udp(1000, 2000)
        .write(&mut frame, &vec![0x5a; payload])
        .unwrap();
    frame
}

/// Inner TCP over IPv4 with `payload` bytes.
pub fn tcp(source: MacAddr, destination: MacAddr, payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source.0, destination.0)
        .ipv4(A_IP, B_IP, 64)
        .tcp(1000, 2000, 1, 1000)
        .write(&mut frame, &vec![0x5a; payload])
        .unwrap();
    frame
}

/// Inner UDP over IPv6.
pub fn udp6(source: MacAddr, destination: MacAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source.0, destination.0)
        .ipv6(A_IP6, [0xfc; 16], 64)
        .udp(1000, 2000)
        .write(&mut frame, &[0x5a; 100])
        .unwrap();
    frame
}

/// Inner TCP over IPv6.
pub fn tcp6(source: MacAddr, destination: MacAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source.0, destination.0)
        .ipv6(A_IP6, [0xfc; 16], 64)
        .tcp(1000, 2000, 1, 1000)
        .write(&mut frame, &[0x5a; 100])
        .unwrap();
    frame
}

/// An inner frame of any ethertype.
pub fn ethernet(source: MacAddr, destination: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [destination.0, source.0].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An ARP body in an Ethernet frame. `operation`: 1 asks, 2 answers.
pub fn arp(
    source: MacAddr,
    destination: MacAddr,
    operation: u16,
    sender_ip: [u8; 4],
    target_ip: [u8; 4],
) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    body.extend(source.0);
    body.extend(sender_ip);
    body.extend([0; 6]);
    body.extend(target_ip);
    ethernet(source, destination, 0x0806, &body)
}

/// The group of everybody whose address ends like `target`.
pub fn solicited_node(target: [u8; 16]) -> [u8; 16] {
    let mut group = [0; 16];
    (group[0], group[1], group[11], group[12]) = (0xff, 2, 1, 0xff);
    group[13..].copy_from_slice(&target[13..]);
    group
}

/// `ICMPv6` of neighbour discovery: type, flags and what is behind them.
pub fn nd(
    [source, destination]: [MacAddr; 2],
    [from, to]: [[u8; 16]; 2],
    kind: u8,
    flags: u8,
    rest: &[u8],
) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source.0, destination.0)
        .ipv6(from, to, 255)
        .icmpv6_raw(kind, 0, [flags, 0, 0, 0])
        .write(&mut frame, rest)
        .unwrap();
    frame
}

/// An option of neighbour discovery: 1 names the source's MAC, 2 the target's.
pub fn link_layer(kind: u8, mac: MacAddr) -> Vec<u8> {
    [&[kind, 1], &mac.0[..]].concat()
}

/// What surrounds an inner frame on the underlay. The default is well-formed: peer 1 to us.
pub struct Tunnelled {
    pub inner: Vec<u8>,
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub port: u16,
    pub flags: u8,
    pub vni: u32,
    pub checksum: u16,
    pub tos: u8,
}

impl Default for Tunnelled {
    fn default() -> Self {
        Self {
            inner: udp(B, A, 100),
            source: PEER1_IP,
            destination: VTEP_IP,
            port: PORT,
            flags: 8,
            vni: VNI,
            checksum: 0,
            tos: 0,
        }
    }
}

impl Tunnelled {
    pub fn build(&self) -> Vec<u8> {
        let mut payload = vec![self.flags, 0, 0, 0];
        payload.extend((self.vni << 8).to_be_bytes());
        payload.extend(&self.inner);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 1, 0, 0, 0, 2], LOOPBACK_MAC)
            .ipv4(self.source, self.destination, 64)
            .udp(50000, self.port)
            .write(&mut frame, &payload)
            .unwrap();
        frame[15] = self.tos;
        frame[40..42].copy_from_slice(&self.checksum.to_be_bytes());
        fix_ip_checksum(&mut frame);
        frame
    }
}

/// The family of the outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    V4,
    V6,
}

impl Over {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Length of the outer headers.
    pub const fn len(self) -> usize {
        match self {
            Self::V4 => 50,
            Self::V6 => 70,
        }
    }
}

impl Tunnelled {
    /// The frame over either family; on IPv6 between the addresses that go with the IPv4 ones.
    pub fn over(&self, over: Over) -> Vec<u8> {
        if over == Over::V4 {
            return self.build();
        }
        let mut payload = vec![self.flags, 0, 0, 0];
        payload.extend((self.vni << 8).to_be_bytes());
        payload.extend(&self.inner);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 1, 0, 0, 0, 2], LOOPBACK_MAC)
            .ipv6(v6(self.source), v6(self.destination), 64)
            .udp(50000, self.port)
            .write(&mut frame, &payload)
            .unwrap();
        frame[14] |= self.tos >> 4;
        frame[15] |= self.tos << 4;
        frame[60..62].copy_from_slice(&self.checksum.to_be_bytes());
        frame
    }
}

/// Recomputes the outer IPv4 header checksum after a change.
pub fn fix_ip_checksum(frame: &mut [u8]) {
    let len = 4 * usize::from(frame[14] & 0x0f);
    frame[24] = 0;
    frame[25] = 0;
    let mut sum: u32 = frame[14..14 + len]
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
