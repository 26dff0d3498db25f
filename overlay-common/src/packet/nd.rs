//! Neighbour discovery for IPv6 (RFC 4861).

use network_types::ip::Ipv6Hdr;

use super::checksum::{fold, sum};
use super::ip::IPPROTO_ICMPV6;
use super::{ETH_LEN, ETHERTYPE_IPV6, Ethernet, IPV6_LEN, Packet};
use crate::net::MacAddr;

pub const ROUTER_SOLICITATION: u8 = 133;
pub const ROUTER_ADVERTISEMENT: u8 = 134;
pub const SOLICITATION: u8 = 135;
pub const ADVERTISEMENT: u8 = 136;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Most options that are looked at; one with more is refused. Linux sends one or two.
const OPTIONS_MAX: usize = 4;

const UNSPECIFIED: [u8; 16] = [0; 16];
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// Ethernet, IPv6, an advertisement and its one option.
pub const FRAME_LEN: usize = ETH_LEN + IPV6_LEN + MESSAGE_LEN;
/// An advertisement with the target's link-layer address.
const MESSAGE_LEN: usize = BODY_LEN + 8;
/// A solicitation or advertisement without options.
const BODY_LEN: usize = 24;

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// [`SOLICITATION`] or [`ADVERTISEMENT`].
    pub kind: u8,
    pub source: [u8; 16],
    pub target: [u8; 16],
}

impl Neighbor {
    /// The message at `offset` bytes of a frame. `None` when a receiver would discard it
    /// (sections 7.1.1 and 7.1.2), the checksum aside, which changes nothing in what is asked; or when
    /// it names a MAC other than the sender's as its own: source of a solicitation, target of an
    /// advertisement.
    #[inline(always)]
    pub fn read<P: Packet + ?Sized>(packet: &P, offset: usize, sender: MacAddr) -> Option<Self> {
        let ip = packet.header::<Ipv6Hdr>(ETH_LEN)?;
        let head = packet.header::<[u8; 8]>(offset)?;
        let target = packet.header::<[u8; 16]>(offset + 8)?;
        let end = ETH_LEN + IPV6_LEN + usize::from(u16::from_be_bytes(ip.payload_len));
        let [kind, code, ..] = head;
        if ip.hop_limit != 255
            || code != 0
            || end > packet.frame_len()
            || offset + BODY_LEN > end
            || target[0] == 0xff
        {
            return None;
        }
        let wanted = if kind == SOLICITATION {
            SOURCE_LINK_LAYER
        } else {
            TARGET_LINK_LAYER
        };
        let named = names(packet, offset + BODY_LEN, end, wanted, sender)?;
        if ip.src_addr == UNSPECIFIED
            && (kind != SOLICITATION || named || !is_solicited_node(&ip.dst_addr))
        {
            return None;
        }
        Some(Self {
            kind,
            source: ip.src_addr,
            target,
        })
    }

    /// Writes the frame that answers this solicitation of `asker`: the target is at `mac`. To all
    /// nodes when the asker has no address yet (section 7.2.4).
    #[inline(always)]
    pub fn advertisement(
        &self,
        asker: MacAddr,
        mac: MacAddr,
        router: bool,
        frame: &mut [u8; FRAME_LEN],
    ) {
        const ROUTER: u8 = 0x80;
        const SOLICITED: u8 = 0x40;
        const OVERRIDE: u8 = 0x20;
        const ICMP: usize = ETH_LEN + IPV6_LEN;

        let unspecified = self.source == UNSPECIFIED;
        let (destination, address, solicited) = if unspecified {
            (ALL_NODES_MAC, ALL_NODES, 0)
        } else {
            (asker, self.source, SOLICITED)
        };
        let ethernet = Ethernet {
            destination,
            source: mac,
            ethertype: ETHERTYPE_IPV6,
        };
        frame.fill(0);
        frame[..ETH_LEN].copy_from_slice(&ethernet.to_bytes());
        frame[14] = 0x60;
        frame[19] = MESSAGE_LEN as u8;
        frame[20] = IPPROTO_ICMPV6;
        frame[21] = 255;
        frame[22..38].copy_from_slice(&self.target);
        frame[38..54].copy_from_slice(&address);
        frame[ICMP] = ADVERTISEMENT;
        frame[ICMP + 4] = OVERRIDE | solicited | if router { ROUTER } else { 0 };
        frame[ICMP + 8..ICMP + 24].copy_from_slice(&self.target);
        frame[ICMP + 24] = TARGET_LINK_LAYER;
        frame[ICMP + 25] = 1;
        frame[ICMP + 26..].copy_from_slice(&mac.0);

        // Pseudo-header (RFC 8200, section 8.1): addresses, length, protocol.
        let total = sum(&frame[22..]) + MESSAGE_LEN as u32 + u32::from(IPPROTO_ICMPV6);
        let [high, low] = (!fold(total)).to_be_bytes();
        frame[ICMP + 2] = high;
        frame[ICMP + 3] = low;
    }
}

/// Whether the options from `at` to `end` name `mac` in one of a kind. `None` when they are
/// malformed or name another.
#[inline(always)]
fn names<P: Packet + ?Sized>(
    packet: &P,
    mut at: usize,
    end: usize,
    kind: u8,
    mac: MacAddr,
) -> Option<bool> {
    let mut named = false;
    for _ in 0..OPTIONS_MAX {
        if at >= end {
            break;
        }
        let option = packet.header::<[u8; 8]>(at)?;
        if option[1] == 0 {
            return None;
        }
        if option[0] == kind {
            let [m0, m1, m2, m3, m4, m5] = mac.0;
            if option != [kind, 1, m0, m1, m2, m3, m4, m5] {
                return None;
            }
            named = true;
        }
        at += 8 * usize::from(option[1]);
    }
    (at == end).then_some(named)
}

/// Whether it is the group of everybody whose address ends alike (RFC 4291, section 2.7.1).
#[inline(always)]
const fn is_solicited_node(ip: &[u8; 16]) -> bool {
    matches!(ip, [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ..])
}
