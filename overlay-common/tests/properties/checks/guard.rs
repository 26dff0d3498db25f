//! What a process of this host sends.

use etherparse::{IpNumber, LaxNetSlice, TransportSlice, UdpHeaderSlice};
use overlay_common::DropReason;
use overlay_common::decide::Tables as _;
use overlay_common::decide::guard::guard;
use overlay_common::net::IpKey;

use super::input::{Head, Input};
use super::reference;
use super::world::{PORT, World};

pub fn check(data: &[u8]) {
    let Input { knobs, frame } = &Input::new(data);
    let (world, vtep) = (World(*knobs), World::vtep());
    let guarded = guard(&frame[..], &vtep, &world);
    assert_eq!(guarded, guard(&Head(frame), &vtep, &world), "looks too far");
    let forged = udp_destination(frame)
        .is_some_and(|(ip, port)| port == PORT && (world.peer(&ip).is_some() || ip.is_multicast()));
    match guarded {
        Ok(()) => assert!(!forged, "VXLAN to a peer got through"),
        Err(refusal) => {
            assert_eq!(refusal.reason, DropReason::Forged);
            // A header that another parser refuses is refused here if its bytes say so.
            assert!(forged || !is_sound(frame), "refused: {frame:02x?}");
        }
    }
}

/// Of the IP header only: what follows may be anything.
fn is_sound(frame: &[u8]) -> bool {
    reference::headers(frame).is_some_and(|packet| packet.stop_err.is_none())
}

/// Address and port that a datagram goes to.
pub fn udp_destination(frame: &[u8]) -> Option<(IpKey, u16)> {
    let packet = reference::headers(frame)?;
    if !packet.link_exts.is_empty() {
        return None;
    }
    let (ip, first) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let first = header.more_fragments() && header.fragments_offset().value() == 0;
            let udp = first && ip.payload_ip_number() == IpNumber::UDP;
            (
                IpKey::v4(header.destination()),
                udp.then(|| &frame[14 + header.slice().len()..]),
            )
        }
        LaxNetSlice::Ipv6(ip) if ip.extensions().is_empty() => {
            (IpKey::v6(ip.header().destination()), None)
        }
        LaxNetSlice::Ipv6(_) | LaxNetSlice::Arp(_) => return None,
    };
    if let Some(first) = first {
        // The other parser does not look into fragments.
        let udp = UdpHeaderSlice::from_slice(first).ok()?;
        return Some((ip, udp.destination_port()));
    }
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) => Some((ip, udp.destination_port())),
        _ => None,
    }
}
