//! Where a UDP datagram goes.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPPROTO_UDP, IPV6_LEN, Packet};
use crate::net::IpKey;

const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Address and port that the datagram whose IP header is at `offset` goes to. `None` for what is
/// no UDP, for all but the first fragment, whose port is elsewhere, and behind IPv6 extension
/// headers.
#[inline(always)]
pub fn destination<P: Packet + ?Sized>(
    packet: &P,
    ethertype: u16,
    offset: usize,
) -> Option<(IpKey, u16)> {
    let (ip, udp) = match ethertype {
        ETHERTYPE_IPV4 => {
            let ip = packet.header::<Ipv4Hdr>(offset)?;
            if ip.proto != IPPROTO_UDP || u16::from_be_bytes(ip.frags) & FRAGMENT_OFFSET != 0 {
                return None;
            }
            (IpKey::v4(ip.dst_addr), 4 * usize::from(ip.vihl & 0x0f))
        }
        ETHERTYPE_IPV6 => {
            let ip = packet.header::<Ipv6Hdr>(offset)?;
            if ip.next_hdr != IPPROTO_UDP {
                return None;
            }
            (IpKey::v6(ip.dst_addr), IPV6_LEN)
        }
        _ => return None,
    };
    let header = packet.header::<UdpHdr>(offset + udp)?;
    Some((ip, u16::from_be_bytes(header.dst)))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const V4: [u8; 4] = [192, 0, 2, 2];
    const V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    #[test]
    fn of_both_families() {
        let mut v4 = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 1], V4, 64)
            .udp(1000, 4789)
            .write(&mut v4, &[0; 8])
            .unwrap();
        let mut v6 = Vec::new();
        PacketBuilder::ipv6([0xfd; 16], V6, 64)
            .udp(1000, 4789)
            .write(&mut v6, &[0; 8])
            .unwrap();
        let found = destination(&v4[..], ETHERTYPE_IPV4, 0);
        assert_eq!(found, Some((IpKey::v4(V4), 4789)));
        let found = destination(&v6[..], ETHERTYPE_IPV6, 0);
        assert_eq!(found, Some((IpKey::v6(V6), 4789)));
        for cut in 0..28 {
            assert_eq!(destination(&v4[..cut], ETHERTYPE_IPV4, 0), None, "{cut}");
        }
        for cut in 0..48 {
            assert_eq!(destination(&v6[..cut], ETHERTYPE_IPV6, 0), None, "{cut}");
        }
        v4[7] = 1;
        assert_eq!(destination(&v4[..], ETHERTYPE_IPV4, 0), None);
        v6[6] = 6;
        assert_eq!(destination(&v6[..], ETHERTYPE_IPV6, 0), None);
    }
}
