//! Frames that an endpoint sends: whether they may go, where to, and what they look like on the wire.

use etherparse::{IpNumber, LaxNetSlice, TransportSlice};
use overlay_common::DropReason;
use overlay_common::decide::Tables as _;
use overlay_common::decide::endpoint::{self, Exception, Forward, Sender};
use overlay_common::decide::service::{self, SERVICE_IP};
use overlay_common::decide::tunnel::{self, Offload, Path};
use overlay_common::decide::underlay::{self, Outer};
use overlay_common::layout::{FdbKey, FdbValue, NeighborKey, fdb_flags, neighbor_flags};
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::packet::encap::{ENCAP_V4_LEN, ENCAP_V6_LEN, Variable, write_v4, write_v6};
use overlay_common::packet::{Ethernet, Packet, ip};

use super::guard::udp_destination;
use super::input::{Head, Input, Knobs};
use super::reference;
use super::world::{ALLOWED, IFINDEX, LOCAL, LOCAL_IP, LOCAL_IP6, PORT, US, US6, VNI, World};

const ROUTER_ADVERTISEMENT: u8 = 134;

pub fn check(data: &[u8]) {
    let Input { knobs, frame } = &Input::new(data);
    let world = World(*knobs);
    let decided = decide(&frame[..], &frame[..], &world);
    let first = Head::reaching(frame, endpoint::reach(&frame[..]));
    let with_heads = decide(&first, &Head::new(frame), &world);
    assert_eq!(decided, with_heads, "looks too far");
    let Ok(way) = decided else {
        return;
    };
    let ethernet = Ethernet::read(&frame[..], 0).expect("an Ethernet header");
    assert_eq!(ethernet.source, LOCAL);
    let opaque = knobs.tagged || matches!(ethernet.ethertype, 0x8100 | 0x88a8);
    if opaque {
        assert!(knobs.vlan, "a VLAN tag");
    } else {
        may_be_sent(frame, ethernet, knobs);
    }
    match way {
        Way::Local { mac } => {
            assert_eq!(mac, ethernet.destination);
            assert_ne!(entry(&world, mac).ifindex, 0, "not here");
        }
        Way::Remote { mac } => {
            assert_eq!(mac, ethernet.destination);
            let entry = entry(&world, mac);
            assert_eq!(entry.ifindex, 0, "here");
            assert_ne!(entry.peer, 0, "a tunnel to this host");
            is_tunnelled_right(frame, ethernet, knobs, &world);
        }
        Way::Exception(exception, mac) => is_exception(frame, exception, mac, &world, opaque),
    }
}

/// Where a frame goes, by whichever program.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Local { mac: MacAddr },
    Remote { mac: MacAddr },
    Exception(Exception, MacAddr),
}

/// As the one program and the other have the frame at hand.
fn decide<P: Packet + ?Sized, Q: Packet + ?Sized>(
    first: &P,
    second: &Q,
    world: &World,
) -> Result<Way, DropReason> {
    let sender = Sender {
        ifindex: IFINDEX,
        endpoint: &world.endpoint(),
        tagged: world.0.tagged,
        vtep: &World::vtep(),
    };
    let mut mac = MacAddr::default();
    let exception = match endpoint::exception(second, &sender, world, &mut mac) {
        Ok(Exception::Discovery) => endpoint::discovery(second, &sender, world, &mut mac),
        decided => decided,
    };
    let forward = endpoint::forward(first, &sender, world);
    match forward {
        Ok((_, Forward::Exception)) => Ok(Way::Exception(exception?, mac)),
        // What the first program decides, the second would decide alike.
        Ok((ethernet, forward)) => {
            assert_eq!(
                (exception, mac),
                (Ok(Exception::Send), ethernet.destination)
            );
            Ok(if matches!(forward, Forward::Local { .. }) {
                Way::Local { mac }
            } else {
                Way::Remote { mac }
            })
        }
        Err(refusal) => {
            assert_eq!((refusal.vni, refusal.peer), (VNI, 0), "{refusal:?}");
            assert_eq!(exception, Err(refusal.reason));
            Err(refusal.reason)
        }
    }
}

/// The entry of a MAC that a frame is sent to: there, of this network, and no gateway's.
fn entry(world: &World, mac: MacAddr) -> FdbValue {
    let entry = world.fdb(&FdbKey::new(VNI, mac)).expect("nobody's MAC");
    assert_eq!(entry.vni, VNI, "another network's");
    assert_eq!(entry.flags & fdb_flags::GATEWAY, 0, "the gateway's");
    entry
}

fn is_exception(frame: &[u8], exception: Exception, mac: MacAddr, world: &World, opaque: bool) {
    let knobs = &world.0;
    let ethernet = Ethernet::read(frame, 0).expect("an Ethernet header");
    let neighbor = |ip| world.neighbor(&NeighborKey { vni: VNI, ip });
    let at_gateway = || {
        let entry = world.fdb(&FdbKey::new(VNI, ethernet.destination));
        assert!(entry.is_some_and(|entry| entry.flags & fdb_flags::GATEWAY != 0));
        ip::hop(frame, ethernet.ethertype).expect("IP")
    };
    match exception {
        Exception::Send => {
            assert_eq!(mac, ethernet.destination);
            entry(world, mac);
        }
        Exception::Route => {
            let hop = at_gateway();
            assert!(hop.ttl > 1 && ip::is_routable(&hop.destination));
            assert_eq!(neighbor(hop.destination).map(|n| n.mac), Some(mac));
            entry(world, mac);
        }
        Exception::TimeExceeded => assert!(at_gateway().ttl <= 1),
        Exception::Unreachable => {
            let to = at_gateway().destination;
            let known = neighbor(to).and_then(|n| world.fdb(&FdbKey::new(VNI, n.mac)));
            let routable =
                |entry: FdbValue| entry.vni == VNI && entry.flags & fdb_flags::GATEWAY == 0;
            assert!(!known.is_some_and(routable), "{to:?} is there");
        }
        Exception::Echo => {
            let to = neighbor(at_gateway().destination).expect("the gateway");
            assert_ne!(to.flags & neighbor_flags::ROUTER, 0);
        }
        Exception::Arp => {
            let target = frame[38..42].try_into().expect("a whole request");
            let known = neighbor(IpKey::v4(target)).map(|neighbor| neighbor.mac);
            let service = (target == SERVICE_IP).then_some(MacAddr::of_gateway(VNI));
            assert_eq!(service.or(known), Some(mac));
            assert_ne!(mac, LOCAL, "tells the asker of itself");
        }
        Exception::Neighbor | Exception::Router => {
            assert_eq!(frame[54], 135, "no solicitation");
            assert_ne!(mac, LOCAL, "tells the asker of itself");
            let target = frame[62..78].try_into().expect("a whole solicitation");
            if ip::link_local_mac(&target).is_none() {
                let known = neighbor(IpKey::v6(target)).expect("nobody's address");
                let router = known.flags & neighbor_flags::ROUTER != 0;
                assert_eq!((known.mac, router), (mac, exception == Exception::Router));
            }
        }
        Exception::Flood => {
            assert!(knobs.floods, "floods");
            let valid = world
                .fdb(&FdbKey::new(VNI, ethernet.destination))
                .filter(|entry| entry.vni == VNI);
            let asks = matches!(ethernet.ethertype, 0x0806 | 0x86dd) && !opaque;
            assert!(valid.is_none() || asks, "has one receiver");
        }
        Exception::Service => {
            assert_eq!(frame[26..34], [LOCAL_IP, SERVICE_IP].concat());
            assert_eq!(ethernet.destination, MacAddr::of_gateway(VNI));
            let Some(packet) = reference::headers(frame) else {
                // Its options are cut off, so the kernel over there drops it.
                let header = 4 * usize::from(frame[14] & 0xf);
                assert!(frame.len() < 14 + header, "not IP");
                return;
            };
            let Some(LaxNetSlice::Ipv4(ip)) = &packet.net else {
                panic!("no IPv4");
            };
            let at = service::checksum_at(frame).map(|checksum| checksum.offset);
            let transport = frame.len() - ip.payload().payload.len();
            let wanted = match (
                ip.header().protocol().0,
                ip.header().fragments_offset().value(),
            ) {
                (6, 0) => Some(transport + 16),
                (17, 0) => Some(transport + 6),
                _ => None,
            };
            if frame.len() <= 14 + usize::from(ip.header().total_len()) {
                assert_eq!(at, wanted, "where the checksum is");
            }
        }
        Exception::Discovery => panic!("not decided"),
    }
}

/// Its own addresses, and nothing that is not an endpoint's to say.
fn may_be_sent(frame: &[u8], ethernet: Ethernet, knobs: &Knobs) {
    assert!(
        ethernet.ethertype >= 0x600 && !matches!(ethernet.ethertype, 0x8847 | 0x8848),
        "{ethernet:?}"
    );
    let Some(packet) = reference::headers(frame) else {
        return;
    };
    let allowed = |ip: &[u8]| knobs.allowed && ip.starts_with(&ALLOWED);
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let source = ip.header().source();
            assert!(source == LOCAL_IP || allowed(&source), "from {source:?}");
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let source = ip.header().source();
            let group = source == [0; 16] && ethernet.destination.is_multicast();
            let mapped =
                knobs.allowed && source.starts_with(&IpKey::v4([10, 9, 0, 0]).octets()[..14]);
            let own = source == LOCAL_IP6 || source == ip::link_local(LOCAL);
            assert!(own || group || mapped, "from {source:02x?}");
            if ip.header().next_header() == IpNumber::IPV6_ICMP
                && let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport
            {
                assert_ne!(icmp.type_u8(), ROUTER_ADVERTISEMENT);
            }
        }
        Some(LaxNetSlice::Arp(arp)) => {
            assert_eq!(arp.sender_hw_addr(), LOCAL.0);
            let sender = arp.sender_protocol_addr();
            let probe = sender == [0; 4] && arp.operation().0 == 1;
            assert!(
                probe || sender == LOCAL_IP || allowed(sender),
                "ARP of {sender:?}"
            );
        }
        None => {}
    }
    if let Some((ip, port)) = udp_destination(frame) {
        let vtep = [IpKey::v4(US), IpKey::v6(US6)].contains(&ip);
        let peer = World(*knobs).peer(&ip).is_some();
        assert!(port != PORT || !(vtep || peer), "VXLAN to {ip:?}");
    }
}

/// What leaves by the fast path fits, and is VXLAN of the right network to another reader.
fn is_tunnelled_right(frame: &[u8], ethernet: Ethernet, knobs: &Knobs, world: &World) {
    let tunnel = world.tunnel();
    let offload = Offload {
        gso_size: knobs.gso_size,
        tagged: knobs.tagged,
    };
    let path = tunnel::path(frame, ethernet, offload, &tunnel);
    let head = Head::reaching(frame, endpoint::reach(frame));
    let with_head = tunnel::path(&head, ethernet, offload, &tunnel);
    assert_eq!(path, with_head, "looks too far");
    let Ok(Path::Fast) = path else {
        return;
    };
    let overhead = tunnel.header_len as usize;
    let outer = frame.len() + overhead - 14;
    assert!(ethernet.is_ip() && !knobs.tagged && outer <= 0xffff);
    assert!(
        knobs.gso_size != 0 || outer <= tunnel.mtu as usize,
        "{outer} bytes do not fit"
    );

    let variable = Variable {
        inner: ethernet,
        inner_len: u16::try_from(frame.len()).expect("fits"),
        vni: VNI,
        source_port: 50000,
        traffic_class: tunnel::traffic_class(frame, ethernet, &tunnel),
    };
    let mut sent = if tunnel.is_ipv6() {
        let mut headers = vec![0; ENCAP_V6_LEN];
        write_v6(&mut headers[..], &tunnel.header, &variable);
        headers
    } else {
        let mut headers = vec![0; ENCAP_V4_LEN];
        write_v4(&mut headers[..], &tunnel.header, &variable);
        headers
    };
    sent.extend(frame.get(14..).unwrap_or_default());
    let Ok(Outer::Vxlan(vxlan)) = underlay::classify(&sent[..], &World::vtep()) else {
        panic!("sent what is no VXLAN");
    };
    assert_eq!((vxlan.vni, vxlan.outer_len), (VNI, overhead));
    assert_eq!(vxlan.traffic_class, variable.traffic_class);
    assert_eq!(sent[overhead..], *frame);
    let mac = MacAddr(sent[6..12].try_into().expect("six bytes"));
    assert_eq!(
        mac,
        MacAddr([2, 1, 0, 0, 0, 2]),
        "from the underlay's device"
    );
}
