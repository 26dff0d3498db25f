//! What a process of this host sends.

use etherparse::{IpNumber, Ipv6ExtensionSlice, LaxNetSlice, TransportSlice, UdpHeaderSlice};
use overlay_common::DropReason;
use overlay_common::decide::Tables as _;
use overlay_common::decide::guard::{guard, reach};
use overlay_common::net::IpKey;
use overlay_common::packet::udp;

use super::input::{Head, Input};
use super::reference;
use super::world::{PORT, World};

pub fn check(data: &[u8]) {
    let Input { knobs, frame } = &Input::new(data);
    if frame.len() < 14 {
        return;
    }
    let (world, vtep) = (World(*knobs), World::vtep());
    let guarded = guard(&frame[..], false, &vtep, &world);
    let with_head = guard(
        &Head::reaching(frame, reach(&frame[..])),
        false,
        &vtep,
        &world,
    );
    assert_eq!(guarded, with_head, "looks too far");
    let datagram = udp::datagram(&frame[..], u16::from_be_bytes([frame[12], frame[13]]));
    let own = datagram.is_some_and(|ends| ends.source == vtep.ip4 || ends.source == vtep.ip6);
    let forwarded = guard(&frame[..], true, &vtep, &world);
    assert_eq!(forwarded, if own { guarded } else { Ok(()) }, "forwarded");
    let forged = udp_destination(frame)
        .is_some_and(|(ip, port)| port == PORT && (world.peer(&ip).is_some() || ip.is_multicast()));
    match guarded {
        Ok(()) => assert!(!forged, "VXLAN to a peer got through"),
        Err(refusal) => {
            assert_eq!(refusal.reason, DropReason::Forged);
            // A header that another parser refuses is refused here if its bytes say so.
            // Behind IPv6 extension headers the other parser reads neither fragments nor all that many.
            let extended = frame[12..14] == [0x86, 0xdd] && frame[20] != 17;
            assert!(
                forged || extended || !is_sound(frame),
                "refused: {frame:02x?}"
            );
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
        LaxNetSlice::Ipv6(ip) => {
            // Whole, or the other parser reads beyond the end of what was cut off.
            if !matches!(packet.transport, Some(TransportSlice::Udp(_))) {
                return None;
            }
            // Of what is authenticated the programs know nothing.
            let mut extensions = ip.extensions().clone().into_iter();
            if extensions.any(|one| matches!(one, Ipv6ExtensionSlice::Authentication(_))) {
                return None;
            }
            (IpKey::v6(ip.header().destination()), None)
        }
        LaxNetSlice::Arp(_) => return None,
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
