//! Frames on the underlay: what they are, who may get them, how the outer headers come off.

use etherparse::checksum::Sum16BitWords;
use overlay_common::DropReason;
use overlay_common::decide::Tables as _;
use overlay_common::decide::underlay::{
    self, Change, Delivery, Family, Outer, Receivers, Strip, Vxlan,
};
use overlay_common::layout::{FdbKey, FdbValue, NeighborKey};
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::packet::{Ethernet, IPPROTO_TCP};

use super::input::{Head, Input};
use super::reference;
use super::world::{GROUP, IFINDEX, US, US6, VNI, World};

pub fn check(data: &[u8]) {
    let Input { knobs, frame } = &Input::new(data);
    let (world, vtep) = (World(*knobs), World::vtep());
    let head = &Head::reaching(frame, underlay::reach(&frame[..]));
    let outer = underlay::classify(&frame[..], &vtep);
    assert_eq!(outer, underlay::classify(head, &vtep), "looks too far");
    let reference = reference::vxlan(frame);
    let Ok(Outer::Vxlan(vxlan)) = outer else {
        assert_eq!(reference, None, "well-formed, and taken for {outer:?}");
        return;
    };
    assert_eq!(Some(vxlan), reference);

    let admitted = underlay::admit(&frame[..], vxlan.outer_len, &vxlan, &vtep, &world);
    let with_head = underlay::admit(head, vxlan.outer_len, &vxlan, &vtep, &world);
    assert_eq!(admitted, with_head, "looks too far");
    let delivery = match admitted {
        Ok(delivery) => delivery,
        Err(refusal) => {
            assert!(
                [0, VNI].contains(&refusal.vni) && refusal.peer <= 2,
                "{refusal:?}"
            );
            return;
        }
    };
    let filtered = underlay::filter(&vxlan, &vtep, &world);
    assert!(
        filtered.is_ok(),
        "admitted, but filtered before: {filtered:?}"
    );
    is_admissible(frame, &vxlan, &delivery, &world);

    let aggregate = knobs.gso_size != 0;
    let strip = |packet: &Head<'_>| {
        underlay::decapsulable(packet, vxlan.outer_len, &vxlan, &delivery, aggregate)
    };
    let stripped =
        underlay::decapsulable(&frame[..], vxlan.outer_len, &vxlan, &delivery, aggregate);
    assert_eq!(stripped, strip(head), "looks too far");
    let inner = &frame[vxlan.outer_len..];
    match stripped {
        Ok(Ok(strip)) => {
            if aggregate {
                let protocol = inner[14 + if strip.family == Family::V4 { 9 } else { 6 }];
                assert_eq!(protocol, IPPROTO_TCP, "an aggregate");
                let receiver = Receivers::One { ifindex: IFINDEX };
                assert!(
                    !knobs.forwards || delivery.receivers != receiver,
                    "an aggregate"
                );
            }
            is_stripped_right(inner, &vxlan, strip);
        }
        Ok(Err(_cause)) => {}
        Err(refusal) => assert_eq!(refusal.reason, DropReason::Congestion),
    }
}

/// Rule 2 of the design: nothing gets out of a VNI.
fn is_admissible(frame: &[u8], vxlan: &Vxlan, delivery: &Delivery, world: &World) {
    assert_eq!(vxlan.vni, VNI);
    let to = vxlan.destination;
    assert!(
        [IpKey::v4(US), IpKey::v6(US6), IpKey::v4(GROUP)].contains(&to),
        "{vxlan:?}"
    );
    let peer = world.peer(&vxlan.source).expect("a peer");
    let entry = |mac: MacAddr| {
        world
            .fdb(&FdbKey::new(VNI, mac))
            .filter(|entry| entry.vni == VNI)
    };
    let inner = Ethernet::read(frame, vxlan.outer_len).expect("an inner frame");
    assert_eq!((delivery.inner, delivery.peer), (inner, peer.index));
    assert_eq!(
        entry(inner.source).expect("an endpoint").peer,
        peer.index,
        "of another peer"
    );
    assert!(
        inner.ethertype >= 0x600 && !matches!(inner.ethertype, 0x8847 | 0x8848),
        "{inner:?}"
    );
    let tagged = matches!(inner.ethertype, 0x8100 | 0x88a8);
    assert!(!tagged || world.0.vlan, "a VLAN tag");

    let destination = entry(inner.destination);
    match delivery.receivers {
        Receivers::One { ifindex } => {
            let wanted = if inner.destination.is_multicast() {
                asked_for(&frame[vxlan.outer_len..], world).and_then(entry)
            } else {
                destination
            };
            assert_eq!(wanted.map(|entry| entry.ifindex), Some(ifindex));
            assert_ne!(ifindex, 0);
        }
        Receivers::Everyone { vni } => {
            assert!(vni == VNI && world.0.floods, "{delivery:?}");
            let elsewhere = |entry: &FdbValue| entry.ifindex == 0;
            assert!(
                !destination.as_ref().is_some_and(elsewhere),
                "belongs elsewhere"
            );
        }
    }
}

/// Who has the address that an ARP request asks for.
fn asked_for(inner: &[u8], world: &World) -> Option<MacAddr> {
    let arp = etherparse::ArpPacketSlice::from_slice(inner.get(14..)?).ok()?;
    let ip = arp.target_protocol_addr().try_into().ok()?;
    let key = NeighborKey {
        vni: VNI,
        ip: IpKey::v4(ip),
    };
    Some(world.neighbor(&key)?.mac)
}

/// Nothing changes but the mark, and a checksum stays as right or wrong as it was.
fn is_stripped_right(inner: &[u8], vxlan: &Vxlan, strip: Strip) {
    const CE: u8 = 3;
    let class = |ip: &[u8]| match strip.family {
        Family::V4 => ip[1],
        Family::V6 => ip[0] << 4 | ip[1] >> 4,
    };
    let before = &inner[14..];
    let mut after = before.to_vec();
    match strip.change {
        Change::None => {}
        Change::V4 { tos, checksum } => {
            after[..2].copy_from_slice(&tos);
            after[10..12].copy_from_slice(&checksum);
            let error = |ip: &[u8]| Sum16BitWords::new().add_slice(&ip[..20]).ones_complement();
            assert_eq!(error(before), error(&after), "{strip:?}");
        }
        Change::V6 { traffic_class } => after[..2].copy_from_slice(&traffic_class),
    }
    assert_eq!(class(before) >> 2, class(&after) >> 2, "another DSCP");
    assert_eq!(after[0] >> 4, before[0] >> 4, "another version");
    let marks = (
        vxlan.traffic_class & CE,
        class(before) & CE,
        class(&after) & CE,
    );
    match marks {
        (CE, 0, _) => panic!("congestion is lost"),
        (CE, _, mark) => assert_eq!(mark, CE),
        (1, 2, mark) => assert_eq!(mark, 1),
        (_, inner, mark) => assert_eq!(mark, inner, "{marks:?}"),
    }
}
