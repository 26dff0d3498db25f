use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::layout::{TunnelValue, tunnel_flags};
use crate::net::{IpKey, MacAddr};
use crate::packet::ETHERTYPE_IPV4;

fn template(source: IpAddr, destination: IpAddr, ttl: u8, tos: u8) -> Template {
    Template {
        source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        next_hop: MacAddr([2, 0, 0, 0, 0, 2]),
        source,
        destination,
        port: 4789,
        ttl,
        tos,
    }
}

fn variables() -> impl Strategy<Value = Variable> {
    (14u16..=65479, 1u32..=0xff_ffff, 49152u16.., any::<u8>()).prop_map(
        |(inner_len, vni, source_port, traffic_class)| Variable {
            inner: Ethernet {
                destination: MacAddr([2, 0, 0, 0, 0, 3]),
                source: MacAddr([2, 0, 0, 0, 0, 4]),
                ethertype: ETHERTYPE_IPV4,
            },
            inner_len,
            vni,
            source_port,
            traffic_class,
        },
    )
}

fn key(ip: IpAddr) -> IpKey {
    match ip {
        IpAddr::V4(ip) => IpKey::v4(ip.octets()),
        IpAddr::V6(ip) => IpKey::v6(ip.octets()),
    }
}

/// What an independent parser finds behind the IP header.
fn check_transport(packet: &SlicedPacket<'_>, variable: &Variable) {
    let Some(TransportSlice::Udp(udp)) = &packet.transport else {
        panic!("no UDP")
    };
    assert_eq!(
        (udp.source_port(), udp.destination_port()),
        (variable.source_port, 4789)
    );
    assert_eq!((udp.length(), udp.checksum()), (variable.inner_len + 16, 0));
    let [_, a, b, c] = variable.vni.to_be_bytes();
    assert_eq!(udp.payload()[..8], [8, 0, 0, 0, a, b, c, 0]);
    assert_eq!(udp.payload()[8..22], variable.inner.to_bytes());
}

fn whole(headers: &[u8], overhead: usize, variable: &Variable) -> Vec<u8> {
    let mut frame = headers.to_vec();
    frame.resize(overhead + usize::from(variable.inner_len), 0);
    frame
}

proptest! {
    #[test]
    fn well_formed_v4(
        variable in variables(), source: [u8; 4], destination: [u8; 4], ttl: u8, tos: u8,
    ) {
        let template = template(source.into(), destination.into(), ttl, tos);
        let mut headers = [0xff; ENCAP_V4_LEN];
        write_v4(&mut headers[..], &template.to_bytes(), &variable);
        let frame = whole(&headers, 50, &variable);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
        let ip = ip.header().to_header();
        prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        prop_assert!(ip.dont_fragment && !ip.more_fragments);
        prop_assert_eq!((ip.source, ip.destination), (source, destination));
        prop_assert_eq!(ip.time_to_live, ttl);
        prop_assert_eq!(ip.dscp.value() << 2 | ip.ecn.value(), variable.traffic_class);
        prop_assert_eq!(usize::from(ip.total_len), frame.len() - 14);
        check_transport(&packet, &variable);
    }

    #[test]
    fn well_formed_v6(
        variable in variables(), source: [u8; 16], destination: [u8; 16], ttl: u8, tos: u8,
    ) {
        let template = template(source.into(), destination.into(), ttl, tos);
        let mut headers = [0xff; ENCAP_V6_LEN];
        write_v6(&mut headers[..], &template.to_bytes(), &variable);
        let frame = whole(&headers, 70, &variable);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
        let ip = ip.header().to_header();
        prop_assert_eq!((ip.source, ip.destination), (source, destination));
        prop_assert_eq!((ip.hop_limit, ip.flow_label.value()), (ttl, 0));
        prop_assert_eq!(ip.traffic_class, variable.traffic_class);
        prop_assert_eq!(usize::from(ip.payload_length), frame.len() - 54);
        check_transport(&packet, &variable);
    }

    #[test]
    fn a_tunnel_tells_what_it_is_made_of(
        v4: ([u8; 4], [u8; 4]), v6: ([u8; 16], [u8; 16]), ttl: u8, tos: u8,
    ) {
        let ends: [(IpAddr, IpAddr); 2] = [(v4.0.into(), v4.1.into()), (v6.0.into(), v6.1.into())];
        for (from, to) in ends {
            let template = template(from, to, ttl, tos);
            let tunnel = TunnelValue {
                header: template.to_bytes(),
                header_len: template.header_len(),
                flags: template.flags(),
                ..TunnelValue::NONE
            };
            prop_assert_eq!((source(&tunnel), destination(&tunnel)), (from, to));
            prop_assert!(tunnel.ends_at(&key(to)));
            prop_assert_eq!(tunnel.ends_at(&key(from)), from == to);
            let without_a_route = TunnelValue { header_len: 0, ..tunnel };
            prop_assert!(!without_a_route.ends_at(&key(to)));
            prop_assert_eq!((tunnel.ttl(), tunnel.tos()), (ttl, tos & 0xfc));
            prop_assert_eq!(tunnel.header_len, if to.is_ipv6() { 70 } else { 50 });
        }
    }
}

#[test]
fn flags_follow_the_template() {
    let v4 = template([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 64, 0);
    assert_eq!(v4.flags(), tunnel_flags::RESOLVED);
    let unresolved = Template {
        next_hop: MacAddr::default(),
        ..v4
    };
    assert_eq!(unresolved.flags(), 0);
    let v6 = template([1; 16].into(), [2; 16].into(), 64, 0);
    assert_eq!(v6.flags(), tunnel_flags::RESOLVED | tunnel_flags::IPV6);
}

#[test]
fn two_families_make_no_header() {
    let template = template([192, 0, 2, 1].into(), [2; 16].into(), 64, 0);
    assert_eq!(template.header_len(), 0);
    assert_eq!(template.to_bytes(), [0; TUNNEL_HEADER_MAX]);
}
