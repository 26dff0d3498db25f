//! What is measured.

use overlay_common::maps::{FROM_ENDPOINT, FROM_UNDERLAY, TO_UNDERLAY, UNDERLAY_FILTER};

use crate::fixture::{A, A_IP, PORT, VTEP_IP};
use crate::frames::{Over, Tunnelled, arp, udp};
use crate::tables::{allowed, ip, local, mac, peer, stranger};

const PAYLOAD: usize = 100;
const NEXT: i32 = -1;
const REDIRECT: i32 = 7;
const XDP_PASS: i32 = 2;
/// `ingress_ifindex` of `struct __sk_buff`.
const INGRESS_IFINDEX: usize = 36;

/// A program and a frame for the i-th entry of the tables.
pub struct Row {
    pub name: &'static str,
    pub program: &'static str,
    pub frame: fn(u32) -> Vec<u8>,
    pub verdict: i32,
    /// The frame was redirected from another device.
    redirected: bool,
}

impl Row {
    const fn new(
        name: &'static str,
        program: &'static str,
        verdict: i32,
        frame: fn(u32) -> Vec<u8>,
    ) -> Self {
        Self {
            name,
            program,
            frame,
            verdict,
            redirected: false,
        }
    }

    /// What the program is told besides the frame.
    pub fn context(&self) -> [u8; 192] {
        let mut context = [0; 192];
        context[INGRESS_IFINDEX] = u8::from(self.redirected);
        context
    }
}

/// A program that returns at once: what is left is the measurement itself.
pub const NOTHING: Row = Row {
    redirected: true,
    ..Row::new("to_underlay, redirected", TO_UNDERLAY, NEXT, |i| {
        udp(A, mac(i), PAYLOAD)
    })
};

pub const ROWS: &[Row] = &[
    Row::new("from_endpoint, to a peer", FROM_ENDPOINT, REDIRECT, |i| {
        udp(A, mac(i), PAYLOAD)
    }),
    Row::new(
        "from_endpoint, to a peer, allowed address",
        FROM_ENDPOINT,
        REDIRECT,
        |i| with_source(udp(A, mac(i), PAYLOAD), allowed(i)),
    ),
    Row::new("from_endpoint, local", FROM_ENDPOINT, REDIRECT, |i| {
        udp(A, local(i), PAYLOAD)
    }),
    Row::new("from_endpoint, ARP answer", FROM_ENDPOINT, REDIRECT, |i| {
        arp(A, overlay_common::net::MacAddr::BROADCAST, 1, A_IP, ip(i))
    }),
    Row::new("from_underlay, IPv4", FROM_UNDERLAY, REDIRECT, |i| {
        tunnelled(i, Over::V4)
    }),
    Row::new("from_underlay, IPv6", FROM_UNDERLAY, REDIRECT, |i| {
        tunnelled(i, Over::V6)
    }),
    Row::new("underlay_filter", UNDERLAY_FILTER, XDP_PASS, |i| {
        tunnelled(i, Over::V4)
    }),
    Row::new("to_underlay, UDP of the host", TO_UNDERLAY, NEXT, |i| {
        Tunnelled {
            source: VTEP_IP,
            destination: stranger(i),
            port: PORT,
            ..Tunnelled::default()
        }
        .over(Over::V4)
    }),
];

fn tunnelled(i: u32, over: Over) -> Vec<u8> {
    Tunnelled {
        inner: udp(mac(i), A, PAYLOAD),
        source: peer(i),
        ..Tunnelled::default()
    }
    .over(over)
}

fn with_source(mut frame: Vec<u8>, source: [u8; 4]) -> Vec<u8> {
    frame[26..30].copy_from_slice(&source);
    frame
}
