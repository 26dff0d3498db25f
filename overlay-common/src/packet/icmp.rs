//! ICMP (RFC 792) and `ICMPv6` (RFC 4443): what the gateway tells an endpoint.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::checksum::{fold, replace, sum};
use super::ip::{
    IPPROTO_ICMP, IPPROTO_ICMPV6, Upper, ipv4_header_len, is_fragment, is_later_fragment, upper,
};
use super::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPV4_LEN, IPV6_LEN, Packet};
use crate::DropReason;
use crate::layout::TunnelValue;
use crate::net::MacAddr;

/// Most bytes of the offending packet that are told back, in whole words: an IPv4 header with all
/// its options and a whole TCP header are 120. A checksum that the sender left to its device has
/// its place before that, which the kernel does not let a frame be cut in front of.
pub const QUOTE_MAX: usize = 128;
const ICMP_LEN: usize = 8;
/// What an error puts in front of the quoted packet.
pub const ERROR_V4_LEN: usize = ETH_LEN + IPV4_LEN + ICMP_LEN;
pub const ERROR_V6_LEN: usize = ETH_LEN + IPV6_LEN + ICMP_LEN;

const TTL: u8 = 64;
/// Internetwork control, as RFC 1812, section 4.3.2.5, wants errors to be marked.
const PRECEDENCE: u8 = 0xc0;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
const REDIRECT_V6: u8 = 137;

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// All that fits, in bytes of IP, for a packet that is too big; else 0.
    pub mtu: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    TooBig,
    /// The TTL or hop limit ended.
    TimeExceeded,
    /// No way to the destination.
    Unreachable,
    /// The destination is there, and nobody answers at it.
    NoService,
}

impl ProblemKind {
    /// What a frame with this problem is counted under.
    #[inline(always)]
    pub const fn reason(self) -> DropReason {
        match self {
            Self::TooBig => DropReason::TooBig,
            Self::TimeExceeded => DropReason::TimeExceeded,
            Self::Unreachable => DropReason::Unroutable,
            Self::NoService => DropReason::NoService,
        }
    }
}

impl Problem {
    pub const TIME_EXCEEDED: Self = Self {
        kind: ProblemKind::TimeExceeded,
        mtu: 0,
    };
    pub const UNREACHABLE: Self = Self {
        kind: ProblemKind::Unreachable,
        mtu: 0,
    };

    pub const NO_SERVICE: Self = Self {
        kind: ProblemKind::NoService,
        mtu: 0,
    };

    /// Too big for a tunnel. The outer IP packet is as much larger than the inner one as its Ethernet
    /// header, which does not count, is long, and the inner one, which does.
    #[inline(always)]
    pub const fn too_big(tunnel: &TunnelValue) -> Self {
        Self {
            kind: ProblemKind::TooBig,
            mtu: tunnel.mtu.saturating_sub(tunnel.header_len),
        }
    }

    /// Type, code and second word of ICMP.
    #[inline(always)]
    const fn v4(self) -> (u8, u8, u32) {
        match self.kind {
            // The next hop's MTU is the lower half (RFC 1191, section 4).
            ProblemKind::TooBig => (3, 4, self.mtu & 0xffff),
            ProblemKind::TimeExceeded => (11, 0, 0),
            ProblemKind::Unreachable => (3, 0, 0),
            // The port: a resolver that is told so asks the next server at once.
            ProblemKind::NoService => (3, 3, 0),
        }
    }

    /// The same of `ICMPv6`.
    #[inline(always)]
    const fn v6(self) -> (u8, u8, u32) {
        match self.kind {
            ProblemKind::TooBig => (2, 0, self.mtu),
            ProblemKind::TimeExceeded => (3, 0, 0),
            ProblemKind::Unreachable => (1, 0, 0),
            ProblemKind::NoService => (1, 4, 0),
        }
    }
}

/// Bytes of the IP packet that an error about it quotes.
#[inline(always)]
pub fn quote_len(frame_len: usize) -> usize {
    frame_len.saturating_sub(ETH_LEN).min(QUOTE_MAX) & !3
}

/// Writes the headers of an error about the IPv4 packet in a frame, from `mac` and `gateway`, or in the name
/// of the packet's destination where the gateway is zero. The quoted packet follows them. `None`
/// where an error must not be sent (RFC 1122, section 3.2.2).
#[inline(always)]
pub fn error_v4<P: Packet + ?Sized>(
    packet: &P,
    ethernet: Ethernet,
    mac: MacAddr,
    gateway: [u8; 4],
    problem: Problem,
    bytes: &mut [u8; ERROR_V4_LEN],
) -> Option<()> {
    const ICMP: usize = ETH_LEN + IPV4_LEN;

    let ip = packet.header::<Ipv4Hdr>(ETH_LEN)?;
    if ethernet.destination.is_multicast()
        || is_later_fragment(&ip)
        || !is_host(ip.src_addr)
        || ip.dst_addr[0] >= 224
    {
        return None;
    }
    if ip.proto == IPPROTO_ICMP {
        let offset = ETH_LEN + ipv4_header_len(&ip)?;
        // Queries and their answers; all else are errors.
        let [kind, ..] = packet.header::<[u8; 4]>(offset)?;
        if !matches!(kind, 0 | 8 | 13..=18) {
            return None;
        }
    }
    let quote = quote_len(packet.frame_len());
    let back = Ethernet {
        destination: ethernet.source,
        source: mac,
        ethertype: ETHERTYPE_IPV4,
    };
    let source = if gateway == [0; 4] {
        ip.dst_addr
    } else {
        gateway
    };
    bytes.fill(0);
    bytes[..ETH_LEN].copy_from_slice(&back.to_bytes());
    bytes[14] = 0x45;
    bytes[15] = PRECEDENCE;
    put(bytes, 16, (IPV4_LEN + ICMP_LEN + quote) as u16);
    bytes[22] = TTL;
    bytes[23] = IPPROTO_ICMP;
    bytes[26..30].copy_from_slice(&source);
    bytes[30..34].copy_from_slice(&ip.src_addr);
    let check = !fold(sum(&bytes[ETH_LEN..ICMP]));
    put(bytes, 24, check);

    let (kind, code, rest) = problem.v4();
    bytes[ICMP] = kind;
    bytes[ICMP + 1] = code;
    bytes[ICMP + 4..].copy_from_slice(&rest.to_be_bytes());
    let check = !fold(sum(&bytes[ICMP..]) + quote_sum(packet));
    put(bytes, ICMP + 2, check);
    Some(())
}

/// The same for IPv6 (RFC 4443, section 2.4).
#[inline(always)]
pub fn error_v6<P: Packet + ?Sized>(
    packet: &P,
    ethernet: Ethernet,
    mac: MacAddr,
    gateway: [u8; 16],
    problem: Problem,
    bytes: &mut [u8; ERROR_V6_LEN],
) -> Option<()> {
    const ICMP: usize = ETH_LEN + IPV6_LEN;

    let ip = packet.header::<Ipv6Hdr>(ETH_LEN)?;
    if ethernet.destination.is_multicast()
        || ip.src_addr == [0; 16]
        || ip.src_addr[0] == 0xff
        || ip.dst_addr[0] == 0xff
    {
        return None;
    }
    match upper(packet, ip.next_hdr) {
        Upper::Header {
            protocol: IPPROTO_ICMPV6,
            offset,
        } => {
            let [kind, ..] = packet.header::<[u8; 4]>(offset)?;
            if kind < 128 || kind == REDIRECT_V6 {
                return None;
            }
        }
        Upper::Header { .. } => {}
        Upper::LaterFragment | Upper::Hidden => return None,
    }
    let message = (ICMP_LEN + quote_len(packet.frame_len())) as u16;
    let back = Ethernet {
        destination: ethernet.source,
        source: mac,
        ethertype: ETHERTYPE_IPV6,
    };
    let source = if gateway == [0; 16] {
        ip.dst_addr
    } else {
        gateway
    };
    bytes.fill(0);
    bytes[..ETH_LEN].copy_from_slice(&back.to_bytes());
    bytes[14] = 0x60;
    put(bytes, 18, message);
    bytes[20] = IPPROTO_ICMPV6;
    bytes[21] = TTL;
    bytes[22..38].copy_from_slice(&source);
    bytes[38..54].copy_from_slice(&ip.src_addr);

    let (kind, code, rest) = problem.v6();
    bytes[ICMP] = kind;
    bytes[ICMP + 1] = code;
    bytes[ICMP + 4..].copy_from_slice(&rest.to_be_bytes());
    let pseudo = u32::from(message) + u32::from(IPPROTO_ICMPV6);
    let check = !fold(sum(&bytes[22..]) + pseudo + quote_sum(packet));
    put(bytes, ICMP + 2, check);
    Some(())
}

/// What turns an echo request into its answer, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<const HEAD: usize> {
    /// The first bytes of the frame.
    pub head: [u8; HEAD],
    /// Of the ICMP message.
    pub offset: usize,
    /// The first bytes of the message.
    pub message: [u8; 4],
}

pub const ECHO_V4_HEAD: usize = ETH_LEN + IPV4_LEN;
pub const ECHO_V6_HEAD: usize = ETH_LEN + IPV6_LEN;

/// The answer to an echo request; `None` when the frame is none, or a fragment of one.
#[inline(always)]
pub fn echo_v4<P: Packet + ?Sized>(packet: &P) -> Option<Echo<ECHO_V4_HEAD>> {
    let ethernet = Ethernet::read(packet, 0)?;
    let ip = packet.header::<Ipv4Hdr>(ETH_LEN)?;
    if ip.proto != IPPROTO_ICMP || is_fragment(&ip) {
        return None;
    }
    let offset = ETH_LEN + ipv4_header_len(&ip)?;
    let message = packet.header::<[u8; ICMP_LEN]>(offset)?;
    if message[0] != ECHO_REQUEST || message[1] != 0 {
        return None;
    }
    let mut head = packet.header::<[u8; ECHO_V4_HEAD]>(0)?;
    head[..ETH_LEN].copy_from_slice(&turned(ethernet));
    head[26..30].copy_from_slice(&ip.dst_addr);
    head[30..34].copy_from_slice(&ip.src_addr);
    head[22] = TTL;
    let check = replace(
        u16::from_be_bytes(ip.check),
        u16::from_be_bytes([ip.ttl, ip.proto]),
        u16::from_be_bytes([TTL, ip.proto]),
    );
    put(&mut head, 24, check);
    Some(Echo {
        head,
        offset,
        message: retyped(message, ECHO_REPLY),
    })
}

/// The same for IPv6. Behind extension headers there is no answer.
#[inline(always)]
pub fn echo_v6<P: Packet + ?Sized>(packet: &P) -> Option<Echo<ECHO_V6_HEAD>> {
    let ethernet = Ethernet::read(packet, 0)?;
    let ip = packet.header::<Ipv6Hdr>(ETH_LEN)?;
    let offset = ETH_LEN + IPV6_LEN;
    let message = packet.header::<[u8; ICMP_LEN]>(offset)?;
    if ip.next_hdr != IPPROTO_ICMPV6 || message[0] != ECHO_REQUEST_V6 || message[1] != 0 {
        return None;
    }
    let mut head = packet.header::<[u8; ECHO_V6_HEAD]>(0)?;
    head[..ETH_LEN].copy_from_slice(&turned(ethernet));
    head[21] = TTL;
    head[22..38].copy_from_slice(&ip.dst_addr);
    head[38..54].copy_from_slice(&ip.src_addr);
    Some(Echo {
        head,
        offset,
        message: retyped(message, ECHO_REPLY_V6),
    })
}

#[inline(always)]
const fn turned(ethernet: Ethernet) -> [u8; ETH_LEN] {
    Ethernet {
        destination: ethernet.source,
        source: ethernet.destination,
        ethertype: ethernet.ethertype,
    }
    .to_bytes()
}

/// Type, code and checksum of a message that gets another type.
#[inline(always)]
const fn retyped(message: [u8; ICMP_LEN], kind: u8) -> [u8; 4] {
    let [old, code, high, low, ..] = message;
    let check = replace(
        u16::from_be_bytes([high, low]),
        u16::from_be_bytes([old, code]),
        u16::from_be_bytes([kind, code]),
    );
    // The two zeroes of ones' complement are one but for an answer of nothing but zero bytes, whose
    // sum is 0: a receiver takes ffff for right in any case.
    let check = if check == 0 { 0xffff } else { check };
    let [high, low] = check.to_be_bytes();
    [kind, code, high, low]
}

/// Whether an address is one host's (RFC 1122, section 3.2.2: not zero, loopback or a group).
#[inline(always)]
const fn is_host(ip: [u8; 4]) -> bool {
    !(ip[0] == 0 || ip[0] == 127 || ip[0] >= 224)
}

/// Sum of the words that are quoted.
#[inline(always)]
fn quote_sum<P: Packet + ?Sized>(packet: &P) -> u32 {
    let mut sum = 0;
    for word in 0..QUOTE_MAX / 4 {
        let Some([a, b, c, d]) = packet.header::<[u8; 4]>(ETH_LEN + 4 * word) else {
            break;
        };
        sum += u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]));
    }
    sum
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8; N], at: usize, value: u16) {
    let [high, low] = value.to_be_bytes();
    bytes[at] = high;
    bytes[at + 1] = low;
}
