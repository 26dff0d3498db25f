//! The service address, at which the agent of each host answers its own endpoints.
//!
//! Overlay addresses are unique within their network only, and the agent has to know who asks. So on the way
//! to the agent the source address is replaced by a *token*, which names the endpoint's interface, and on the
//! way back the token by the address.

use network_types::ip::Ipv4Hdr;

use super::Refusal;
use crate::DropReason;
use crate::layout::EndpointValue;
use crate::net::MacAddr;
use crate::packet::ip::{ipv4_header_len, is_later_fragment};
use crate::packet::{ETH_LEN, ETHERTYPE_IPV4, Ethernet, IPPROTO_TCP, IPPROTO_UDP, Packet};

/// Link-local (RFC 3927): no network of an endpoint's has it.
pub const SERVICE_IP: [u8; 4] = [169, 254, 53, 53];

/// 1.0.0.0: the token of interface 0, which there is not.
const FIRST: u32 = 1 << 24;

/// Loopback, 127.0.0.0, is no source that a kernel would take.
const MAX_IFINDEX: u32 = (126 << 24) - 1;

/// The address that stands for an endpoint, by the ifindex of its host side; `None` for an index beyond two
/// thousand millions.
#[inline(always)]
pub const fn token(ifindex: u32) -> Option<[u8; 4]> {
    if ifindex == 0 || ifindex > MAX_IFINDEX {
        return None;
    }
    Some((FIRST + ifindex).to_be_bytes())
}

/// The interface of a token; `None` for other addresses.
#[inline(always)]
pub const fn ifindex_of(token: [u8; 4]) -> Option<u32> {
    let ifindex = u32::from_be_bytes(token).wrapping_sub(FIRST);
    if ifindex == 0 || ifindex > MAX_IFINDEX {
        return None;
    }
    Some(ifindex)
}

/// Whether an endpoint's frame is for the service address, and from the endpoint's own address: an answer
/// goes nowhere else.
#[inline(always)]
pub(super) fn is_for<P: Packet + ?Sized>(
    packet: &P,
    ethernet: Ethernet,
    endpoint: &EndpointValue,
) -> bool {
    ethernet.ethertype == ETHERTYPE_IPV4
        && ethernet.destination == MacAddr::of_gateway(endpoint.vni)
        && packet
            .header::<Ipv4Hdr>(ETH_LEN)
            .is_some_and(|ip| ip.dst_addr == SERVICE_IP && ip.src_addr == endpoint.ip4)
}

/// Which interface an answer of the agent is for.
///
/// # Errors
/// What is not an answer. Nobody but the agent's own kernel could send it.
#[inline(always)]
pub fn receiver<P: Packet + ?Sized>(packet: &P) -> Result<u32, Refusal> {
    let refusal = Refusal::unattributed(DropReason::ServiceAnswer);
    let ip = match Ethernet::read(packet, 0) {
        Some(ethernet) if ethernet.ethertype == ETHERTYPE_IPV4 => packet.header::<Ipv4Hdr>(ETH_LEN),
        Some(_) | None => None,
    };
    match ip {
        Some(ip) if ip.src_addr == SERVICE_IP => ifindex_of(ip.dst_addr).ok_or(refusal),
        Some(_) | None => Err(refusal),
    }
}

/// Where the checksum of the transport is that covers the packet's addresses, from the start of the frame.
/// `None` where there is none.
#[inline(always)]
pub fn checksum_at<P: Packet + ?Sized>(packet: &P) -> Option<Checksum> {
    let ip = packet.header::<Ipv4Hdr>(ETH_LEN)?;
    let transport = ETH_LEN + ipv4_header_len(&ip)?;
    if is_later_fragment(&ip) {
        return None;
    }
    match ip.proto {
        IPPROTO_TCP => Some(Checksum {
            offset: transport + 16,
            optional: false,
        }),
        IPPROTO_UDP => Some(Checksum {
            offset: transport + 6,
            optional: true,
        }),
        _ => None,
    }
}

/// A checksum over a pseudo header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    pub offset: usize,
    /// Zero means that there is none (RFC 768).
    pub optional: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for ifindex in [1, 2, 255, 256, 65_536, MAX_IFINDEX] {
            let token = token(ifindex).unwrap();
            assert_eq!(ifindex_of(token), Some(ifindex));
            assert!((1..127).contains(&token[0]), "{token:?}");
        }
        assert_eq!(token(7), Some([1, 0, 0, 7]));
        for ifindex in [0, MAX_IFINDEX + 1, u32::MAX] {
            assert_eq!(token(ifindex), None);
        }
        for ip in [
            [1, 0, 0, 0],
            [0, 255, 0, 0],
            [127, 0, 0, 0],
            SERVICE_IP,
            [255; 4],
        ] {
            assert_eq!(ifindex_of(ip), None, "{ip:?}");
        }
    }
}
