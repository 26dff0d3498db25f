//! The decisions on the host: no panic on any bytes, and the price of a decision in look-ups.

use std::cell::Cell;

use overlay_common::DropReason;
use overlay_common::decide::endpoint::{self, Forward, Sender};
use overlay_common::decide::tunnel::{self, Offload};
use overlay_common::decide::underlay::{self, Outer, Receivers};
use overlay_common::decide::{Refusal, Tables};
use overlay_common::layout::{
    AllowedKey, EndpointValue, FdbKey, FdbValue, NeighborKey, NeighborValue, PeerIndex, PeerValue,
    TunnelValue, VniValue, Vtep,
};
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::packet::Ethernet;
use proptest::prelude::*;

const VNI: u32 = 42;
const LOCAL: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const REMOTE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PEER: [u8; 4] = [192, 0, 2, 2];
const US: [u8; 4] = [192, 0, 2, 1];
const PEER6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const US6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// One endpoint here, one at peer 1; every look-up counted.
#[derive(Default)]
struct Counted(Cell<usize>);

impl Counted {
    fn count<T>(&self, value: Option<T>) -> Option<T> {
        self.0.set(self.0.get() + 1);
        value
    }
}

impl Tables for Counted {
    fn peer(&self, source: &IpKey) -> Option<PeerValue> {
        let known = *source == IpKey::v4(PEER) || *source == IpKey::v6(PEER6);
        self.count(known.then_some(PeerValue { index: 1 }))
    }

    fn fdb(&self, key: &FdbKey) -> Option<FdbValue> {
        let value = |ifindex, peer| FdbValue {
            ifindex,
            peer,
            stats: 1,
            generation: 1,
            vni: VNI,
            flags: 0,
        };
        self.count(match (key.vni, key.mac()) {
            (VNI, LOCAL) => Some(value(5, 0)),
            (VNI, REMOTE) => Some(value(0, 1)),
            (_, _) => None,
        })
    }

    fn neighbor(&self, _key: &NeighborKey) -> Option<NeighborValue> {
        self.count(None)
    }

    fn vni(&self, vni: u32) -> Option<VniValue> {
        self.count((vni == VNI).then(VniValue::default))
    }

    /// Of an array, which the kernel looks up inline.
    fn ends_at(&self, peer: PeerIndex, address: &IpKey) -> bool {
        peer == 1 && [IpKey::v4(PEER), IpKey::v6(PEER6)].contains(address)
    }

    fn allowed(&self, _key: &AllowedKey) -> bool {
        self.count(None::<()>).is_some()
    }
}

fn vtep() -> Vtep {
    Vtep {
        ip4: IpKey::v4(US),
        ip6: IpKey::v6(US6),
        port: 4789,
        ..Vtep::default()
    }
}

fn endpoint() -> EndpointValue {
    EndpointValue {
        vni: VNI,
        mac: LOCAL,
        ip4: [10, 0, 0, 1],
        ..EndpointValue::default()
    }
}

fn send(frame: &[u8], tables: &Counted) -> Result<(Ethernet, Forward), Refusal> {
    let sender = Sender {
        ifindex: 5,
        endpoint: &endpoint(),
        tagged: false,
        vtep: &vtep(),
    };
    endpoint::forward(frame, &sender, tables)
}

/// An inner IPv4 frame.
fn inner(source: MacAddr, destination: MacAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(source.0, destination.0)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1, 2)
        .write(&mut frame, &[0; 10])
        .unwrap();
    frame
}

/// A well-formed tunnelled frame from the peer.
fn tunnelled(ipv6: bool) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend((VNI << 8).to_be_bytes());
    payload.extend(inner(REMOTE, LOCAL));
    let ethernet = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = if ipv6 {
        ethernet.ipv6(PEER6, US6, 64)
    } else {
        ethernet.ipv4(PEER, US, 64)
    };
    let mut frame = Vec::new();
    ip.udp(50000, 4789).write(&mut frame, &payload).unwrap();
    let checksum = if ipv6 { 60 } else { 40 };
    frame[checksum..checksum + 2].fill(0);
    frame
}

/// Two look-ups in hash tables to decapsulate and two to encapsulate, of which `ENDPOINTS` is the
/// program's own. What else is looked up is in arrays.
#[test]
fn unicast_costs_few_lookups() {
    for (ipv6, outer_len) in [(false, 50), (true, 70)] {
        let tables = Counted::default();
        let frame = tunnelled(ipv6);
        let Ok(Outer::Vxlan(vxlan)) = underlay::classify(&frame[..], &vtep()) else {
            panic!("not taken for VXLAN");
        };
        assert_eq!((vxlan.outer_len, tables.0.get()), (outer_len, 0));
        let delivery = underlay::admit(&frame[..], outer_len, &vxlan, &vtep(), &tables).unwrap();
        assert_eq!(delivery.receivers, Receivers::One { ifindex: 5 });
        let strip = underlay::decapsulable(&frame[..], vxlan.outer_len, &vxlan, &delivery, false);
        assert!(matches!(strip, Ok(Ok(_))), "{strip:?}");
        assert_eq!(tables.0.get(), 2);
    }

    let tables = Counted::default();
    let frame = inner(LOCAL, REMOTE);
    let (_, forward) = send(&frame, &tables).unwrap();
    assert_eq!(forward, Forward::Remote { peer: 1, stats: 1 });
    assert_eq!(tables.0.get(), 1);
}

#[test]
fn every_truncation_is_refused_or_foreign() {
    for (ipv6, port_known) in [(false, 42), (true, 62)] {
        let frame = tunnelled(ipv6);
        for len in 0..frame.len() {
            match underlay::classify(&frame[..len], &vtep()) {
                Ok(Outer::Foreign) => assert!(len < port_known, "{len} bytes taken for foreign"),
                Err(reason) => assert_eq!(reason, DropReason::Truncated, "{len} bytes"),
                Ok(other) => panic!("{len} bytes taken for {other:?}"),
            }
        }
    }
}

proptest! {
    /// Any bytes get an answer, and no frame is delivered that does not come from the peer and
    /// name its endpoint and ours.
    #[test]
    fn only_the_peers_frames_are_delivered(
        ipv6: bool,
        at in 0usize..122,
        value: u8,
        cut in 0usize..122,
    ) {
        let mut frame = tunnelled(ipv6);
        let i = at % frame.len();
        frame[i] = value;
        frame.truncate(frame.len().min(cut.max(14)));
        if let Ok(Outer::Vxlan(vxlan)) = underlay::classify(&frame[..], &vtep())
            && let Ok(delivery) = underlay::admit(&frame[..], vxlan.outer_len, &vxlan, &vtep(), &Counted::default())
        {
            let peer = if ipv6 { IpKey::v6(PEER6) } else { IpKey::v4(PEER) };
            prop_assert_eq!((vxlan.source, vxlan.vni), (peer, VNI));
            let _ = underlay::decapsulable(&frame[..], vxlan.outer_len, &vxlan, &delivery, cut % 2 == 0);
            prop_assert_eq!(delivery.inner.source, REMOTE);
            prop_assert_eq!(delivery.inner.destination, LOCAL);
        }
    }

    /// An endpoint's frames go nowhere unless they carry its own MAC, whatever the rest.
    #[test]
    fn endpoints_send_from_their_own_mac(bytes in prop::collection::vec(any::<u8>(), 0..128), gso: u16) {
        let tables = Counted::default();
        if let Ok((ethernet, _)) = send(&bytes, &tables) {
            prop_assert_eq!(ethernet.source, LOCAL);
        }
        let mut own = bytes;
        own.resize(own.len().max(14), 0);
        own[6..12].copy_from_slice(&LOCAL.0);
        let tunnel = TunnelValue { header_len: 50, mtu: 1500, ..TunnelValue::NONE };
        if let Ok((ethernet, Forward::Remote { .. })) = send(&own, &tables) {
            let offload = Offload { gso_size: u32::from(gso), tagged: false };
            let _ = tunnel::path(&own[..], ethernet, offload, &tunnel);
        }
    }
}
