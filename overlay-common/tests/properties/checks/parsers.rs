//! The small readers that the decisions are made of.

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpNumber, Ipv6ExtensionsSlice, LaxNetSlice};
use overlay_common::net::IpKey;
use overlay_common::packet::checksum::{fold, ipv4_sum, sum};
use overlay_common::packet::ip::{Upper, aged, hop, ipv4_header_len, upper};
use overlay_common::packet::{Ethernet, Packet as _, udp};

use super::guard::udp_destination;
use super::input::{Head, Input};
use super::reference;

pub fn check(data: &[u8]) {
    let Input { frame, .. } = &Input::new(data);
    let words = Sum16BitWords::new().add_slice(frame);
    assert_eq!(!fold(sum(frame)), words.ones_complement().to_be());
    let Some(ethernet) = Ethernet::read(&frame[..], 0) else {
        assert!(frame.len() < 14);
        return;
    };
    let ethertype = ethernet.ethertype;
    assert_eq!(ethertype, u16::from_be_bytes([frame[12], frame[13]]));
    let (whole, head) = (&frame[..], &Head::new(frame));
    assert_eq!(hop(whole, ethertype), hop(head, ethertype), "looks too far");
    let datagram = udp::datagram(whole, ethertype);
    assert_eq!(datagram, udp::datagram(head, ethertype), "looks too far");

    let Some(packet) = reference::headers(frame) else {
        return;
    };
    if let Some((destination, port)) = udp_destination(frame) {
        let datagram = datagram.expect("a datagram");
        assert_eq!(datagram.destination, destination);
        // Behind more headers than are looked at there is none.
        assert!(datagram.port.is_none_or(|own| own == port), "{datagram:?}");
    }
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) if packet.link_exts.is_empty() => {
            let ip = ip.header();
            let hop = hop(whole, ethertype).expect("a hop");
            assert_eq!(
                (hop.destination, hop.ttl),
                (IpKey::v4(ip.destination()), ip.ttl())
            );
            ages(frame, usize::from(ip.ihl()) * 4);
        }
        Some(LaxNetSlice::Ipv6(ip)) if packet.link_exts.is_empty() => {
            let ip = ip.header();
            let hop = hop(whole, ethertype).expect("a hop");
            assert_eq!(
                (hop.destination, hop.ttl),
                (IpKey::v6(ip.destination()), ip.hop_limit())
            );
            looks_behind_extensions(frame, ip.next_header());
        }
        Some(LaxNetSlice::Ipv4(_) | LaxNetSlice::Ipv6(_) | LaxNetSlice::Arp(_)) | None => {}
    }
}

/// A right checksum stays right when the TTL falls.
fn ages(frame: &[u8], header_len: usize) {
    let header: [u8; 20] = frame[14..34].try_into().expect("a header");
    let ip = frame.header(14).expect("a header");
    assert_eq!(ipv4_header_len(&ip), Some(header_len));
    assert_eq!(sum(&header), ipv4_sum(&header));
    let mut older = header;
    older[8..12].copy_from_slice(&aged(&ip));
    assert_eq!(older[8], header[8].wrapping_sub(1));
    assert_eq!(fold(ipv4_sum(&older)), fold(ipv4_sum(&header)));
}

fn looks_behind_extensions(frame: &[u8], next: IpNumber) {
    let found = upper(frame, next.0);
    assert_eq!(found, upper(&Head::new(frame), next.0), "looks too far");
    let Upper::Header { protocol, offset } = found else {
        return;
    };
    // The authentication header is nothing to look behind here.
    if let Ok((extensions, upper, rest)) = Ipv6ExtensionsSlice::from_slice(next, &frame[54..])
        && !extensions.is_fragmenting_payload()
        && protocol != IpNumber::AUTHENTICATION_HEADER.0
    {
        assert_eq!((protocol, offset), (upper.0, frame.len() - rest.len()));
    }
}
