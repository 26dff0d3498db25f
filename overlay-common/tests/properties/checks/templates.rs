//! Well-formed frames, and some that are not, of every kind that a decision tells apart.

use std::sync::LazyLock;

use etherparse::PacketBuilder;
use overlay_common::decide::service::SERVICE_IP;
use overlay_common::net::{IpKey, MacAddr};

use super::input::repair;
use super::world::{
    FAR, GATEWAY, GROUP, LOCAL, LOCAL_IP, LOCAL_IP6, PEER, PEER6, PORT, REMOTE, REMOTE_IP,
    REMOTE_IP6, US, US6, VNI,
};

/// The first is empty.
pub static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let v4 = |to: MacAddr| PacketBuilder::ethernet2(LOCAL.0, to.0).ipv4(LOCAL_IP, REMOTE_IP, 64);
    let v6 = |to: MacAddr| PacketBuilder::ethernet2(LOCAL.0, to.0).ipv6(LOCAL_IP6, REMOTE_IP6, 64);
    let back4 = PacketBuilder::ethernet2(REMOTE.0, LOCAL.0).ipv4(REMOTE_IP, LOCAL_IP, 64);
    let back6 = PacketBuilder::ethernet2(REMOTE.0, LOCAL.0).ipv6(REMOTE_IP6, LOCAL_IP6, 64);
    let in4 = built(back4.udp(1, 2), 10);
    let in6 = built(back6.tcp(1, 2, 3, 4), 10);
    let service = || {
        let to = MacAddr::of_gateway(VNI);
        PacketBuilder::ethernet2(LOCAL.0, to.0).ipv4(LOCAL_IP, SERVICE_IP, 64)
    };
    let asked = arp(REMOTE, REMOTE_IP, LOCAL_IP);
    let over6 = tunnelled(true, US, US6, &in6);
    let mut mapped = over6.clone();
    mapped[22..38].copy_from_slice(&IpKey::v4(PEER).octets());
    // Congestion on the way, a DSCP inside.
    let mut marked = in4.clone();
    marked[15] = 0xba;
    let mut marked = tunnelled(false, US, US6, &marked);
    marked[15] = 3;
    repair(&mut marked);
    let mut lied = in4.clone();
    lied[6..12].copy_from_slice(&FAR.0);
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
        marked,
        tunnelled(false, US, US6, &lied),
        extended(&over6, 0, &[17, 0, 1, 4, 0, 0, 0, 0]),
        // UDP, or ICMPv6, further on than the programs look.
        extended(&over6, 60, &[&[17, 20][..], &[0; 166]].concat()),
        extended(&over6, 60, &[&[58, 16][..], &[0; 134]].concat()),
        mapped,
        built(v4(REMOTE).udp(1, 2), 10),
        built(v6(REMOTE).tcp(1, 2, 3, 4), 10),
        built(v4(GATEWAY).icmpv4_echo_request(1, 2), 9),
        built(v6(GATEWAY).icmpv6_echo_request(1, 2), 9),
        arp(LOCAL, LOCAL_IP, REMOTE_IP),
        arp(LOCAL, LOCAL_IP, SERVICE_IP),
        built(service().udp(1, 53), 30),
        built(service().tcp(1, 53, 3, 4), 10),
        solicitation(),
        advertised(),
        built(v4(REMOTE).icmpv4_raw(3, 4, [0; 4]), 40),
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
        // A container's own VXLAN, to a peer.
        built(
            PacketBuilder::ethernet2(LOCAL.0, REMOTE.0)
                .ipv4(LOCAL_IP, PEER, 64)
                .udp(1, PORT),
            30,
        ),
        built(
            PacketBuilder::ethernet2(LOCAL.0, REMOTE.0)
                .ipv6(LOCAL_IP6, PEER6, 64)
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

/// IPv6 with extension headers in front of what it carries.
fn extended(frame: &[u8], kind: u8, headers: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[20] = kind;
    frame.splice(54..54, headers.iter().copied());
    let len = u16::try_from(frame.len() - 54).expect("fits");
    frame[18..20].copy_from_slice(&len.to_be_bytes());
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

/// What only a router may say.
fn advertised() -> Vec<u8> {
    const EVERYBODY: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let frame = PacketBuilder::ethernet2(LOCAL.0, REMOTE.0)
        .ipv6(LOCAL_IP6, EVERYBODY, 255)
        .icmpv6_raw(134, 0, [64, 0, 0, 30]);
    built(frame, 8)
}
