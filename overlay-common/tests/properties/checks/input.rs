//! From a fuzzer's bytes to a frame and the circumstances it comes in.

use std::sync::LazyLock;

use etherparse::PacketBuilder;
use etherparse::checksum::Sum16BitWords;
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::packet::Packet;

use super::world::{
    GATEWAY, GROUP, LOCAL, LOCAL_IP, LOCAL_IP6, PEER, PEER6, PORT, REMOTE, REMOTE_IP, REMOTE_IP6,
    US, US6, VNI,
};

/// Everything but the frame.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    pub floods: bool,
    pub vlan: bool,
    pub allowed: bool,
    pub forwards: bool,
    pub over_ipv6: bool,
    pub copy_dscp: bool,
    /// Anything fits the tunnel.
    pub jumbo: bool,
    /// There is a VLAN tag beside the frame.
    pub tagged: bool,
    /// Payload of a segment; 0 for a plain frame.
    pub gso_size: u32,
}

#[derive(Debug)]
pub struct Input {
    pub knobs: Knobs,
    /// Exactly as long as its buffer, so that a sanitizer sees a read behind its end.
    pub frame: Box<[u8]>,
}

impl Input {
    /// Four bytes of circumstances, then what the frame differs from a well-formed one in: zeroes
    /// leave it as it is, and its length cuts it.
    pub fn new(data: &[u8]) -> Self {
        let (head, changes) = data.split_at(data.len().min(4));
        let byte = |i: usize| head.get(i).copied().unwrap_or(0);
        let bit = |i: u8| byte(1) & 1 << i != 0;
        let knobs = Knobs {
            floods: bit(0),
            vlan: bit(1),
            allowed: bit(2),
            forwards: bit(3),
            over_ipv6: bit(4),
            copy_dscp: bit(5),
            jumbo: bit(6),
            tagged: bit(7),
            gso_size: u32::from(byte(2)) << 8,
        };
        let template = TEMPLATES.get(usize::from(byte(0)));
        let template = template.map_or(&[][..], Vec::as_slice);
        let mut frame: Box<[u8]> = changes.into();
        for (byte, original) in frame.iter_mut().zip(template) {
            *byte ^= original;
        }
        if byte(3) & 1 != 0 {
            repair(&mut frame);
        }
        Self { knobs, frame }
    }
}

/// Makes the checksum of an outer IPv4 header right: no fuzzer guesses it.
fn repair(frame: &mut [u8]) {
    if let Some(header) = frame.get_mut(14..34)
        && header[0] == 0x45
    {
        header[10..12].fill(0);
        let checksum = Sum16BitWords::new().add_slice(header).ones_complement();
        // As it is in memory.
        header[10..12].copy_from_slice(&checksum.to_ne_bytes());
    }
}

/// A frame of which the programs have the first bytes at hand only.
pub struct Head<'a>(pub &'a [u8]);

impl Packet for Head<'_> {
    fn frame_len(&self) -> usize {
        self.0.len()
    }

    fn header<T: overlay_common::packet::Header>(&self, offset: usize) -> Option<T> {
        let len = self.0.len().min(overlay_common::packet::ip::HEADERS_MAX);
        self.0[..len].header(offset)
    }
}

/// Well-formed frames of every kind that a decision tells apart.
pub static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let v4 = |to: MacAddr| PacketBuilder::ethernet2(LOCAL.0, to.0).ipv4(LOCAL_IP, REMOTE_IP, 64);
    let v6 = |to: MacAddr| PacketBuilder::ethernet2(LOCAL.0, to.0).ipv6(LOCAL_IP6, REMOTE_IP6, 64);
    let back4 = PacketBuilder::ethernet2(REMOTE.0, LOCAL.0).ipv4(REMOTE_IP, LOCAL_IP, 64);
    let back6 = PacketBuilder::ethernet2(REMOTE.0, LOCAL.0).ipv6(REMOTE_IP6, LOCAL_IP6, 64);
    let in4 = built(back4.udp(1, 2), 10);
    let in6 = built(back6.tcp(1, 2, 3, 4), 10);
    let asked = arp(REMOTE, REMOTE_IP, LOCAL_IP);
    let mut extended = tunnelled(true, US, US6, &in6);
    extended[20] = 0;
    extended.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    let length = u16::from_be_bytes([extended[18], extended[19]]) + 8;
    extended[18..20].copy_from_slice(&length.to_be_bytes());
    // UDP further on than the programs look.
    let mut far = tunnelled(true, US, US6, &in6);
    far[20] = 60;
    far.splice(54..54, [&[17, 20][..], &[0; 166]].concat());
    let length = u16::from_be_bytes([far[18], far[19]]) + 168;
    far[18..20].copy_from_slice(&length.to_be_bytes());
    let mut mapped = tunnelled(true, US, US6, &in4);
    mapped[22..38].copy_from_slice(&IpKey::v4(PEER).0);
    let mut tagged = in4.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    vec![
        Vec::new(),
        tunnelled(false, US, US6, &in4),
        tunnelled(true, US, US6, &in4),
        tunnelled(false, US, US6, &in6),
        tunnelled(false, US, US6, &asked),
        tunnelled(false, GROUP, US6, &in4),
        tunnelled(true, US, US6, &tagged),
        extended,
        far,
        mapped,
        built(v4(REMOTE).udp(1, 2), 10),
        built(v6(REMOTE).tcp(1, 2, 3, 4), 10),
        built(v4(GATEWAY).icmpv4_echo_request(1, 2), 9),
        built(v6(GATEWAY).icmpv6_echo_request(1, 2), 9),
        arp(LOCAL, LOCAL_IP, REMOTE_IP),
        solicitation(),
        built(
            PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4(US, PEER, 64)
                .udp(1, PORT),
            30,
        ),
        built(
            PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv6(US6, PEER6, 64)
                .udp(1, PORT),
            30,
        ),
    ]
});

fn built<T>(packet: etherparse::PacketBuilderStep<T>, payload: usize) -> Vec<u8>
where
    etherparse::PacketBuilderStep<T>: Write,
{
    packet.bytes(&vec![0xa5; payload])
}

/// `PacketBuilderStep` of each transport has a `write` of its own.
trait Write {
    fn bytes(self, payload: &[u8]) -> Vec<u8>;
}

macro_rules! written {
    ($($header:ty),+) => { $(
        impl Write for etherparse::PacketBuilderStep<$header> {
            fn bytes(self, payload: &[u8]) -> Vec<u8> {
                let mut frame = Vec::new();
                self.write(&mut frame, payload).expect("write to memory");
                frame
            }
        }
    )+ };
}
written!(
    etherparse::UdpHeader,
    etherparse::TcpHeader,
    etherparse::Icmpv4Header,
    etherparse::Icmpv6Header
);

/// From the peer to us.
fn tunnelled(ipv6: bool, to4: [u8; 4], to6: [u8; 16], inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend((VNI << 8).to_be_bytes());
    payload.extend(inner);
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = if ipv6 {
        ethernet.ipv6(PEER6, to6, 64)
    } else {
        ethernet.ipv4(PEER, to4, 64)
    };
    let mut frame = Vec::new();
    ip.udp(50000, PORT)
        .write(&mut frame, &payload)
        .expect("write to memory");
    let checksum = if ipv6 { 60 } else { 40 };
    frame[checksum..checksum + 2].fill(0);
    frame
}

fn arp(sender: MacAddr, sender_ip: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(sender.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(sender.0);
    frame.extend(sender_ip);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

/// For [`REMOTE_IP6`], from the endpoint.
fn solicitation() -> Vec<u8> {
    const GROUP: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2];
    let mut body = REMOTE_IP6.to_vec();
    body.extend([1, 1]);
    body.extend(LOCAL.0);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(LOCAL.0, [0x33, 0x33, 0xff, 0, 0, 2])
        .ipv6(LOCAL_IP6, GROUP, 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &body)
        .expect("write to memory");
    frame
}
