//! What another parser says of a frame.

use etherparse::checksum::Sum16BitWords;
use etherparse::{LaxNetSlice, LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice};
use overlay_common::decide::underlay::Vxlan;
use overlay_common::net::IpKey;

use super::world::{PORT, US, US6};

/// The whole packet; `None` where a length or a version is wrong.
pub fn packet(frame: &[u8]) -> Option<SlicedPacket<'_>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    is_of_its_ethertype(
        frame,
        packet
            .net
            .as_ref()
            .is_some_and(|net| matches!(net, NetSlice::Ipv4(_))),
    )
    .then_some(packet)
}

/// As much of a packet as can be read.
pub fn headers(frame: &[u8]) -> Option<LaxSlicedPacket<'_>> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let ipv4 = packet
        .net
        .as_ref()
        .is_some_and(|net| matches!(net, LaxNetSlice::Ipv4(_)));
    is_of_its_ethertype(frame, ipv4).then_some(packet)
}

/// The other parser believes the version and not the ethertype; every receiver wants both.
fn is_of_its_ethertype(frame: &[u8], ipv4: bool) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => ipv4,
        [0x86, 0xdd] => !ipv4,
        _ => true,
    }
}

/// The facts of a well-formed VXLAN packet for this host that stands alone: no IP options, no
/// fragment, no byte too many, a right header checksum.
pub fn vxlan(frame: &[u8]) -> Option<Vxlan> {
    let packet = packet(frame)?;
    let Some(TransportSlice::Udp(udp)) = &packet.transport else {
        return None;
    };
    let (source, destination, traffic_class, header_len, len) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let ip = ip.header();
            if !ip.options().is_empty() || ip.is_fragmenting_payload() || !sums_up(ip.slice()) {
                return None;
            }
            let class = ip.dcp().value() << 2 | ip.ecn().value();
            let (from, to) = (IpKey::v4(ip.source()), IpKey::v4(ip.destination()));
            (from, to, class, 20, usize::from(ip.total_len()))
        }
        NetSlice::Ipv6(ip) => {
            let (extended, ip) = (!ip.extensions().is_empty(), ip.header());
            // Linux drops IPv6 packets from an IPv4-mapped address: each is another family's.
            if extended || ip.source_addr().to_ipv4_mapped().is_some() {
                return None;
            }
            let (from, to) = (IpKey::v6(ip.source()), IpKey::v6(ip.destination()));
            let len = 40 + usize::from(ip.payload_length());
            (from, to, ip.traffic_class(), 40, len)
        }
        NetSlice::Arp(_) => return None,
    };
    let ours = [IpKey::v4(US), IpKey::v6(US6)].contains(&destination);
    let payload = udp.payload();
    let vni = payload
        .get(3..7)
        .map(|bytes| u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]))?;
    let fits = len + 14 == frame.len() && header_len + usize::from(udp.length()) == len;
    if !packet.link_exts.is_empty()
        || !(ours || destination.is_multicast())
        || udp.destination_port() != PORT
        || !fits
        || payload.len() < 8 + 14
        || payload[0] & 8 == 0
        || vni == 0
    {
        return None;
    }
    Some(Vxlan {
        source,
        destination,
        vni,
        outer_len: 14 + header_len + 16,
        traffic_class,
        has_checksum: udp.checksum() != 0,
    })
}

/// Whether bytes that hold their own checksum have it right.
pub fn sums_up(bytes: &[u8]) -> bool {
    Sum16BitWords::new().add_slice(bytes).ones_complement() == 0
}
