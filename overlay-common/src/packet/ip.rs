//! IP headers of the frames inside an overlay.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::checksum::replace;
use super::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_LEN, Packet};
use crate::net::{IpKey, MacAddr};

pub const IPPROTO_ICMP: u8 = 1;
pub const IPPROTO_ICMPV6: u8 = 58;

const FRAGMENT_OFFSET_V4: u16 = 0x1fff;
const MORE_FRAGMENTS_V4: u16 = 0x2000;
const FRAGMENT_OFFSET_V6: u16 = 0xfff8;

/// Every header that a decision looks at begins so that 8 bytes of it are within the first 192
/// of a frame: as much as the programs pull into linear memory at most.
pub const HEADERS_MAX: usize = 192;
/// Most extension headers that are looked behind.
const EXTENSIONS_MAX: usize = 4;

/// Bytes of an IPv4 header with its options; `None` when the version is not 4 or the header
/// shorter than it can be.
#[inline(always)]
pub const fn ipv4_header_len(ip: &Ipv4Hdr) -> Option<usize> {
    let words = ip.vihl.wrapping_sub(0x40) as usize;
    if words < 5 || words > 15 {
        return None;
    }
    Some(4 * words)
}

/// Whether it is a fragment other than the first: its transport header is elsewhere.
#[inline(always)]
pub const fn is_later_fragment(ip: &Ipv4Hdr) -> bool {
    u16::from_be_bytes(ip.frags) & FRAGMENT_OFFSET_V4 != 0
}

/// Whether it is a fragment, the first or another.
#[inline(always)]
pub const fn is_fragment(ip: &Ipv4Hdr) -> bool {
    u16::from_be_bytes(ip.frags) & (FRAGMENT_OFFSET_V4 | MORE_FRAGMENTS_V4) != 0
}

/// What follows an IPv6 header and its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// A transport header, `offset` bytes into the frame.
    Header { protocol: u8, offset: usize },
    /// A fragment other than the first: the transport header is elsewhere.
    LaterFragment,
    /// The headers end before the transport header does begin, or are too many or too long to be
    /// looked behind. A first fragment must have them all (RFC 7112, section 5).
    Hidden,
}

/// Walks the extension headers (RFC 8200, section 4) that begin with `protocol`.
#[inline(always)]
pub fn upper<P: Packet + ?Sized>(packet: &P, mut protocol: u8) -> Upper {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION_OPTIONS: u8 = 60;

    let mut offset = ETH_LEN + IPV6_LEN;
    for _ in 0..=EXTENSIONS_MAX {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let Some([next, units, ..]) = packet.header::<[u8; 8]>(offset) else {
                    return Upper::Hidden;
                };
                protocol = next;
                offset += 8 * (usize::from(units) + 1);
            }
            FRAGMENT => {
                let Some([next, _, high, low, ..]) = packet.header::<[u8; 8]>(offset) else {
                    return Upper::Hidden;
                };
                if u16::from_be_bytes([high, low]) & FRAGMENT_OFFSET_V6 != 0 {
                    return Upper::LaterFragment;
                }
                protocol = next;
                offset += 8;
            }
            _ => return Upper::Header { protocol, offset },
        }
        if offset > HEADERS_MAX - 8 {
            return Upper::Hidden;
        }
    }
    Upper::Hidden
}

/// What a router looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub destination: IpKey,
    /// TTL or hop limit.
    pub ttl: u8,
}

/// `None` when it is not IP or cut short.
#[inline(always)]
pub fn hop<P: Packet + ?Sized>(packet: &P, ethertype: u16) -> Option<Hop> {
    match ethertype {
        ETHERTYPE_IPV4 => {
            let ip = packet.header::<Ipv4Hdr>(ETH_LEN)?;
            Some(Hop {
                destination: IpKey::v4(ip.dst_addr),
                ttl: ip.ttl,
            })
        }
        ETHERTYPE_IPV6 => {
            let ip = packet.header::<Ipv6Hdr>(ETH_LEN)?;
            Some(Hop {
                destination: IpKey::v6(ip.dst_addr),
                ttl: ip.hop_limit,
            })
        }
        _ => None,
    }
}

/// TTL, protocol and header checksum of an IPv4 header after one more hop.
#[inline(always)]
pub const fn aged(ip: &Ipv4Hdr) -> [u8; 4] {
    let ttl = ip.ttl.wrapping_sub(1);
    let check = replace(
        u16::from_be_bytes(ip.check),
        u16::from_be_bytes([ip.ttl, ip.proto]),
        u16::from_be_bytes([ttl, ip.proto]),
    );
    let [high, low] = check.to_be_bytes();
    [ttl, ip.proto, high, low]
}

/// Whether a router may forward to the address: not to a group, not within one link or host
/// (RFC 1812, section 5.3.7; RFC 4291, section 2.5).
#[inline(always)]
pub const fn is_routable(destination: &IpKey) -> bool {
    match destination.octets() {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, ..] => {
            !(a == 0 || a == 127 || a >= 224 || (a == 169 && b == 254))
        }
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 | 1] => false,
        [a, b, ..] => !(a == 0xff || (a == 0xfe && b & 0xc0 == 0x80)),
    }
}

/// The link-local address that an interface makes of its MAC (RFC 4291, appendix A).
#[inline(always)]
pub const fn link_local(mac: MacAddr) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac.0;
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]
}

/// The MAC that a link-local address was made of; `None` for addresses of another kind.
#[inline(always)]
pub const fn link_local_mac(ip: &[u8; 16]) -> Option<MacAddr> {
    match *ip {
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => {
            Some(MacAddr([a ^ 2, b, c, d, e, f]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(headers: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![0; ETH_LEN + IPV6_LEN];
        for header in headers {
            frame.extend(*header);
        }
        frame
    }

    fn header(offset: usize) -> Upper {
        Upper::Header {
            protocol: IPPROTO_ICMPV6,
            offset,
        }
    }

    #[test]
    fn looks_behind_extension_headers() {
        let next = |next| [next, 0, 0, 0, 0, 0, 0, 0];
        let icmp = &[0; 8][..];
        assert_eq!(upper(&chain(&[icmp])[..], 58), header(54));
        assert_eq!(upper(&chain(&[&next(58), icmp])[..], 0), header(62));
        let four = [&next(60)[..], &next(43), &next(44), &next(58), icmp];
        assert_eq!(upper(&chain(&four)[..], 0), header(86));
        let five = [
            &next(60)[..],
            &next(60),
            &next(43),
            &next(44),
            &next(58),
            icmp,
        ];
        assert_eq!(upper(&chain(&five)[..], 0), Upper::Hidden);
        // A header of 24 bytes.
        let long = [
            58, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(upper(&chain(&[&long])[..], 60), header(78));
        assert_eq!(
            upper(&chain(&[&[58, 255, 0, 0, 0, 0, 0, 0]])[..], 60),
            Upper::Hidden
        );
        // Cut off behind the first header.
        assert_eq!(upper(&chain(&[&next(60)])[..], 0), Upper::Hidden);
    }

    #[test]
    fn tells_fragments() {
        let fragment = |offset: u16| {
            let [high, low] = offset.to_be_bytes();
            chain(&[&[58, 0, high, low, 0, 0, 0, 0]])
        };
        assert_eq!(upper(&fragment(0)[..], 44), header(62));
        assert_eq!(upper(&fragment(1)[..], 44), header(62));
        assert_eq!(upper(&fragment(8)[..], 44), Upper::LaterFragment);
    }

    #[test]
    fn link_local_addresses_name_their_mac() {
        let mac = MacAddr([0x02, 0, 0x5e, 0x10, 0x20, 0x30]);
        let ip = "fe80::5eff:fe10:2030"
            .parse::<std::net::Ipv6Addr>()
            .unwrap();
        assert_eq!(link_local(mac), ip.octets());
        assert_eq!(link_local_mac(&ip.octets()), Some(mac));
        let other = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap();
        assert_eq!(link_local_mac(&other.octets()), None);
    }

    #[test]
    fn routes_unicast_only() {
        for (ip, routable) in [
            ("10.0.0.1", true),
            ("223.255.255.255", true),
            ("0.0.0.1", false),
            ("127.0.0.1", false),
            ("169.254.53.53", false),
            ("169.253.0.1", true),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
        ] {
            let ip: std::net::Ipv4Addr = ip.parse().unwrap();
            assert_eq!(is_routable(&IpKey::v4(ip.octets())), routable, "{ip}");
        }
        for (ip, routable) in [
            ("fd00::1", true),
            ("2001:db8::1", true),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", true),
            ("ff02::1", false),
        ] {
            let ip: std::net::Ipv6Addr = ip.parse().unwrap();
            assert_eq!(is_routable(&IpKey::v6(ip.octets())), routable, "{ip}");
        }
    }
}
