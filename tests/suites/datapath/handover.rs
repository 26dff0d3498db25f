//! `from_underlay` and metadata in front of a frame: its own is believed, nobody else's. On a device,
//! because `BPF_PROG_TEST_RUN` gives metadata to XDP only: frames that are no VXLAN pass the filter and
//! go on to TC as they are.

use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType, TestRun as _, TestRunAttrs, TestRunOptions, Xdp,
    tc::TcAttachOptions,
};
use overlay_common::Direction::Rx;
use overlay_common::DropReason;
use overlay_common::layout::{FdbKey, vtep_flags};
use overlay_common::maps::{FROM_UNDERLAY, UNDERLAY_FILTER};
use overlay_common::net::MacAddr;
use tests::netns::Netns;

use super::fixture::{A, B, C, Counters, Programs, VNI, dropped, received, xdp_context};
use super::frames::{Tunnelled, tcp, udp};
use super::xdp_decap::{handover, programs};
use crate::support::PacketSocket;

/// A host whose loopback device is the underlay, and the container of endpoint A.
struct Host {
    programs: Programs,
    host: Netns,
    container: PacketSocket,
    _container: Netns,
}

impl Host {
    fn new() -> Self {
        let host = Netns::new("host").unwrap();
        let container = Netns::new("box").unwrap();
        // Whatever it would say by itself.
        container
            .sysctl("net.ipv6.conf.default.disable_ipv6", "1")
            .unwrap();
        host.connect("ova", &container, "eth0").unwrap();
        let mut programs = programs();
        host.run(|| {
            let ifindex = nix::net::if_::if_nametoindex("ova")?;
            programs.change_world(|world| {
                let key = FdbKey::new(VNI, A);
                world.fdb.get_mut(&key).unwrap().ifindex = ifindex;
            });
            let program: &mut SchedClassifier = programs
                .ebpf
                .program_mut(FROM_UNDERLAY)
                .unwrap()
                .try_into()?;
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            program.attach_with_options("lo", TcAttachType::Ingress, options)?;
            Ok(())
        })
        .unwrap();
        // ETH_P_ALL of `linux/if_ether.h`.
        let socket = container.run(|| PacketSocket::open(3)).unwrap();
        Self {
            programs,
            host,
            container: socket,
            _container: container,
        }
    }

    /// Lets a frame with metadata in; what was counted, and what arrived in the container. All of it
    /// happens before the call returns.
    fn receive(&mut self, metadata: &[u8], frame: &[u8]) -> (Counters, Option<Vec<u8>>) {
        self.programs.reset();
        let input = [metadata, frame].concat();
        let context = xdp_context(metadata.len(), input.len());
        let program: &Xdp = self
            .programs
            .ebpf
            .program(UNDERLAY_FILTER)
            .unwrap()
            .try_into()
            .unwrap();
        self.host
            .run(|| {
                let mut options = TestRunOptions::new();
                options.data_in = Some(&input);
                options.ctx_in = Some(&context);
                options.attrs = TestRunAttrs::new().xdp_live_frames(1);
                program.test_run(options)?;
                Ok(())
            })
            .unwrap();
        let arrived = self.container.receive().unwrap();
        assert_eq!(self.container.receive().unwrap(), None, "a second frame");
        (self.programs.counters(), arrived)
    }
}

#[test]
fn what_xdp_hands_over_is_delivered() {
    let mut host = Host::new();
    let ours = handover(VNI, 1);
    // Another's behind ours, as of a driver.
    let more = [ours.clone(), vec![7; 8]].concat();
    for (what, metadata, frame) in [
        ("TCP", &ours, tcp(B, A, 100)),
        ("UDP: that is not looked at here", &ours, udp(B, A, 100)),
        ("more metadata", &more, tcp(B, A, 1000)),
    ] {
        let (counters, arrived) = host.receive(metadata, &frame);
        assert_eq!(counters, received(1, frame.len()), "{what}");
        assert_eq!(arrived, Some(frame), "{what}");
    }
    // What was on its way when the agent changed its mind.
    host.programs.change_world(|world| world.vtep.flags = 0);
    let frame = tcp(B, A, 100);
    let (counters, arrived) = host.receive(&ours, &frame);
    assert_eq!(counters, received(1, frame.len()));
    assert_eq!(arrived, Some(frame));
}

/// Whoever captures on the underlay holds a clone of each frame. The kernel would copy a clone's head, and
/// forget the metadata, before a program that writes into packets itself.
#[test]
fn a_capture_takes_nothing_away() {
    let mut host = Host::new();
    let capture = host.host.run(|| PacketSocket::on("lo", 3)).unwrap();
    let frame = tcp(B, A, 100);
    let (counters, arrived) = host.receive(&handover(VNI, 1), &frame);
    assert_eq!(counters, received(1, frame.len()));
    assert_eq!(arrived.as_ref(), Some(&frame));
    assert_eq!(capture.receive().unwrap(), Some(frame), "captured");
}

/// The tables are asked again, whatever XDP has found in them.
#[test]
fn what_xdp_hands_over_is_checked_again() {
    let mut host = Host::new();
    let nobody = MacAddr([2, 0, 0, 0, 0, 0x77]);
    let mut tagged = tcp(B, A, 100);
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    for (what, vni, frame, counters) in [
        (
            "from another peer's endpoint",
            VNI,
            tcp(C, A, 100),
            dropped(VNI, 1, Rx, DropReason::InnerSource),
        ),
        (
            "a network that is gone",
            99,
            tcp(B, A, 100),
            dropped(0, 1, Rx, DropReason::UnknownVni),
        ),
        (
            "to nobody",
            VNI,
            tcp(B, nobody, 100),
            dropped(VNI, 1, Rx, DropReason::UnknownDestination),
        ),
        (
            "to an endpoint that has moved",
            VNI,
            tcp(B, C, 100),
            dropped(VNI, 1, Rx, DropReason::NotLocal),
        ),
        (
            "a VLAN tag that XDP cannot see",
            VNI,
            tagged,
            dropped(VNI, 1, Rx, DropReason::Vlan),
        ),
    ] {
        let (counted, arrived) = host.receive(&handover(vni, 1), &frame);
        assert_eq!(counted, counters, "{what}");
        assert_eq!(arrived, None, "{what}");
    }
}

/// A frame with it is what it looks like: for another host's MAC, or in a tunnel.
#[test]
fn metadata_of_others_is_not_believed() {
    let mut host = Host::new();
    let ours = handover(VNI, 1);
    let mut forged = ours.clone();
    forged[0] ^= 1;
    let inner = tcp(B, A, 100);
    for (what, metadata) in [
        ("another cookie", &forged[..]),
        ("too short", &ours[..8]),
        ("zeros", &[0; 12]),
        ("none", &[]),
    ] {
        let (counters, arrived) = host.receive(metadata, &inner);
        assert_eq!((counters, arrived), (Counters::new(), None), "{what}");
    }
    host.programs.change_world(|world| world.vtep.flags = 0);
    let tunnelled = Tunnelled {
        inner: inner.clone(),
        ..Tunnelled::default()
    };
    let (counters, arrived) = host.receive(&forged, &tunnelled.build());
    assert_eq!(counters, received(1, inner.len()));
    assert_eq!(arrived.as_ref(), Some(&inner));
    // Before the agent has chosen a cookie, there is none.
    host.programs.change_world(|world| {
        world.vtep.flags = vtep_flags::XDP_DECAP;
        world.vtep.cookie = 0;
    });
    let without = [vec![0; 4], ours[4..].to_vec()].concat();
    let (counters, arrived) = host.receive(&without, &inner);
    assert_eq!((counters, arrived), (Counters::new(), None));
}
