//! Where a UDP datagram goes.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;

use super::ip::{Upper, is_later_fragment, upper};
use super::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPPROTO_UDP, Packet};
use crate::net::IpKey;

/// The ends of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub source: IpKey,
    pub destination: IpKey,
    /// Of the destination; `None` where it is behind more IPv6 headers than are looked at.
    pub port: Option<u16>,
}

/// The ends of the datagram in a frame. `None` for what is no UDP, and for a fragment other than the
/// first, whose port is elsewhere.
#[inline(always)]
pub fn datagram<P: Packet + ?Sized>(packet: &P, ethertype: u16) -> Option<Datagram> {
    let (source, destination, offset) = match ethertype {
        ETHERTYPE_IPV4 => {
            let ip = packet.header::<Ipv4Hdr>(ETH_LEN)?;
            if ip.proto != IPPROTO_UDP || is_later_fragment(&ip) {
                return None;
            }
            let offset = ETH_LEN + 4 * usize::from(ip.vihl & 0x0f);
            (IpKey::v4(ip.src_addr), IpKey::v4(ip.dst_addr), Some(offset))
        }
        ETHERTYPE_IPV6 => {
            let ip = packet.header::<Ipv6Hdr>(ETH_LEN)?;
            let offset = match upper(packet, ip.next_hdr) {
                Upper::Header {
                    protocol: IPPROTO_UDP,
                    offset,
                } => Some(offset),
                Upper::Hidden => None,
                Upper::Header { .. } | Upper::LaterFragment => return None,
            };
            (IpKey::v6(ip.src_addr), IpKey::v6(ip.dst_addr), offset)
        }
        _ => return None,
    };
    let port = match offset {
        Some(offset) => Some(u16::from_be_bytes(packet.header::<UdpHdr>(offset)?.dst)),
        None => None,
    };
    Some(Datagram {
        source,
        destination,
        port,
    })
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const V4: [u8; 4] = [192, 0, 2, 2];
    const V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    #[test]
    fn of_both_families() {
        let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut v4 = Vec::new();
        ethernet()
            .ipv4([192, 0, 2, 1], V4, 64)
            .udp(1000, 4789)
            .write(&mut v4, &[0; 8])
            .unwrap();
        let mut v6 = Vec::new();
        ethernet()
            .ipv6([0xfd; 16], V6, 64)
            .udp(1000, 4789)
            .write(&mut v6, &[0; 8])
            .unwrap();
        let found = datagram(&v4[..], ETHERTYPE_IPV4);
        let wanted = Datagram {
            source: IpKey::v4([192, 0, 2, 1]),
            destination: IpKey::v4(V4),
            port: Some(4789),
        };
        assert_eq!(found, Some(wanted));
        let found = datagram(&v6[..], ETHERTYPE_IPV6);
        let wanted = Datagram {
            source: IpKey::v6([0xfd; 16]),
            destination: IpKey::v6(V6),
            port: Some(4789),
        };
        assert_eq!(found, Some(wanted));
        for cut in 0..42 {
            assert_eq!(datagram(&v4[..cut], ETHERTYPE_IPV4), None, "{cut}");
        }
        for cut in 0..62 {
            assert_eq!(datagram(&v6[..cut], ETHERTYPE_IPV6), None, "{cut}");
        }

        // The first fragment, and a later one.
        let mut fragment = v6.clone();
        fragment[20] = 44;
        fragment.splice(54..54, [17, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(datagram(&fragment[..], ETHERTYPE_IPV6), Some(wanted));
        fragment[57] = 9;
        assert_eq!(datagram(&fragment[..], ETHERTYPE_IPV6), None);
        // Behind an option header that is longer than what is looked at.
        let mut hidden = v6.clone();
        hidden[20] = 60;
        hidden.splice(54..54, [17, 20, 0, 0, 0, 0, 0, 0]);
        let port = datagram(&hidden[..], ETHERTYPE_IPV6).map(|found| found.port);
        assert_eq!(port, Some(None));

        v4[21] = 1;
        assert_eq!(datagram(&v4[..], ETHERTYPE_IPV4), None);
        v6[20] = 6;
        assert_eq!(datagram(&v6[..], ETHERTYPE_IPV6), None);
    }
}
