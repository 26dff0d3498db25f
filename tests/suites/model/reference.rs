//! What each program has to do with a frame: the decisions of `overlay_common::decide`, and on plain
//! vectors what the kernel's helpers make of them. The outer headers are written here once more,
//! without the code under test.

mod exception;

use overlay_common::decide::endpoint::{self, Forward, Sender};
use overlay_common::decide::tunnel::{self, Offload, Path};
use overlay_common::decide::underlay::{self, Change, Outer, Receivers, Strip};
use overlay_common::decide::{Refusal, guard};
use overlay_common::layout::{
    DropKey, EndpointValue, PeerIndex, TunnelValue, fallback_index, tunnel_flags,
};
use overlay_common::packet::Ethernet;
use overlay_common::packet::icmp::Problem;
use overlay_common::{Direction, DropReason, FallbackCause};

use crate::datapath::case::{NEXT, REDIRECT, SHOT, XDP_DROP, XDP_PASS};
use crate::datapath::fixture::{Counter, Counters, LOOPBACK, Segments};
use crate::datapath::world::World;

/// What a program is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) frame: Vec<u8>,
    pub(super) segments: Segments,
}

/// What has to come out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) verdict: i32,
    pub(super) frame: Vec<u8>,
    /// What XDP hands over in front of the frame.
    pub(super) metadata: Vec<u8>,
    /// Where a UDP source port of the kernel's choice is, made of a hash with a secret.
    pub(super) port_at: Option<usize>,
    pub(super) counters: Counters,
}

impl Outcome {
    fn unchanged(verdict: i32, input: &Input, counters: Counters) -> Self {
        Self {
            verdict,
            frame: input.frame.clone(),
            metadata: Vec::new(),
            port_at: None,
            counters,
        }
    }

    fn drop(verdict: i32, input: &Input, direction: Direction, refusal: Refusal) -> Self {
        let key = DropKey::new(refusal.vni, refusal.peer, direction, refusal.reason);
        Self::unchanged(verdict, input, [(Counter::Drop(key), 1)].into())
    }

    fn fall_back(verdict: i32, input: &Input, direction: Direction, cause: FallbackCause) -> Self {
        let index = fallback_index(direction, cause);
        Self::unchanged(verdict, input, [(Counter::Fallback(index), 1)].into())
    }

    fn count(&mut self, slot: u32, [packets, bytes]: [&'static str; 2], input: &Input, len: usize) {
        let segments = u64::from(input.segments.count.max(1));
        self.counters
            .insert(Counter::Stats(slot, packets), segments);
        self.counters
            .insert(Counter::Stats(slot, bytes), len as u64);
    }
}

const TX: [&str; 2] = ["tx_packets", "tx_bytes"];
const RX: [&str; 2] = ["rx_packets", "rx_bytes"];

pub(super) fn from_endpoint(world: &World, input: &Input) -> Outcome {
    let drop = |refusal| Outcome::drop(SHOT, input, Direction::Tx, refusal);
    let Some(endpoint) = world.endpoints.get(&LOOPBACK) else {
        return drop(Refusal::unattributed(DropReason::UnknownInterface));
    };
    let frame = &input.frame[..];
    let sender = Sender {
        ifindex: LOOPBACK,
        endpoint,
        tagged: false,
        vtep: &world.vtep,
    };
    let (ethernet, forward) = match endpoint::forward(frame, &sender, world) {
        Ok(decision) => decision,
        Err(refusal) => return drop(refusal),
    };
    match forward {
        Forward::Local { stats, .. } => local(stats, input),
        Forward::Remote { peer, stats } => {
            let remote = Remote {
                endpoint,
                peer,
                stats,
            };
            to_peer(world, input, ethernet, &remote)
        }
        Forward::Exception => exception::endpoint(world, input, &sender),
    }
}

/// To an endpoint of this host.
fn local(stats: u32, input: &Input) -> Outcome {
    let mut outcome = Outcome::unchanged(REDIRECT, input, Counters::new());
    outcome.count(stats, TX, input, input.frame.len());
    outcome
}

/// Whose frame goes to which peer.
struct Remote<'a> {
    endpoint: &'a EndpointValue,
    peer: PeerIndex,
    stats: u32,
}

fn to_peer(world: &World, input: &Input, ethernet: Ethernet, remote: &Remote<'_>) -> Outcome {
    let Remote {
        endpoint,
        peer,
        stats,
    } = *remote;
    let frame = &input.frame[..];
    let tunnel = world.tunnels.get(&peer).unwrap_or(&TunnelValue::NONE);
    let offload = Offload {
        gso_size: input.segments.size,
        tagged: false,
    };
    let path = tunnel::path(frame, ethernet, offload, tunnel).and_then(|path| match path {
        Path::Fast => {
            kernel_refuses(input).map_or(Ok(path), |cause| tunnel::instead(cause, offload, tunnel))
        }
        Path::Prepend | Path::Fallback(_) => Ok(path),
    });
    let mut outcome = match path {
        Err(DropReason::TooBig) => {
            let problem = Problem::too_big(tunnel);
            let refusal = Refusal::new(DropReason::TooBig, endpoint.vni, peer);
            return exception::told(world, input, endpoint, refusal, problem);
        }
        Err(reason) => {
            let refusal = Refusal::new(reason, endpoint.vni, peer);
            return Outcome::drop(SHOT, input, Direction::Tx, refusal);
        }
        Ok(Path::Fallback(cause)) => Outcome::fall_back(REDIRECT, input, Direction::Tx, cause),
        Ok(Path::Fast | Path::Prepend) => {
            let tos = tunnel::traffic_class(frame, ethernet, tunnel);
            let outer = outer(tunnel, endpoint.vni, frame.len(), tos);
            let mut outcome = Outcome::unchanged(REDIRECT, input, Counters::new());
            if tunnel.flags & tunnel_flags::RESOLVED == 0 {
                let cause = FallbackCause::NoNeighbor;
                outcome = Outcome::fall_back(REDIRECT, input, Direction::Tx, cause);
            }
            outcome.port_at = Some(outer.len() - 16);
            outcome.frame = [&outer, frame].concat();
            outcome
        }
    };
    outcome.count(stats, TX, input, frame.len());
    outcome
}

pub(super) fn from_underlay(world: &World, input: &Input) -> Outcome {
    let fall_back = |cause| Outcome::fall_back(NEXT, input, Direction::Rx, cause);
    let drop = |refusal| Outcome::drop(SHOT, input, Direction::Rx, refusal);
    if is_for_another_host(&input.frame) {
        return Outcome::unchanged(NEXT, input, Counters::new());
    }
    let frame = &input.frame[..];
    let vxlan = match underlay::classify(frame, &world.vtep) {
        Ok(Outer::Foreign) => return Outcome::unchanged(NEXT, input, Counters::new()),
        Ok(Outer::Fallback(cause)) => return fall_back(cause),
        Ok(Outer::Vxlan(vxlan)) if vxlan.is_for_us(world) => vxlan,
        Ok(Outer::Vxlan(_)) => return Outcome::unchanged(NEXT, input, Counters::new()),
        Err(reason) => return drop(Refusal::unattributed(reason)),
    };
    if vxlan.has_checksum {
        // Nobody verifies what comes from `BPF_PROG_TEST_RUN`.
        return fall_back(FallbackCause::OuterChecksum);
    }
    let outer_len = vxlan.outer_len;
    let delivery = match underlay::admit(frame, outer_len, &vxlan, &world.vtep, world) {
        Ok(delivery) => delivery,
        Err(refusal) => return drop(refusal),
    };
    let aggregate = input.segments.size != 0;
    let change = match underlay::decapsulable(frame, outer_len, &vxlan, &delivery, aggregate) {
        Ok(Ok(Strip { change, .. })) => change,
        Ok(Err(cause)) => return fall_back(cause),
        Err(refusal) => return drop(refusal),
    };
    if let Some(cause) = kernel_refuses(input) {
        return fall_back(cause);
    }
    let mut outcome = Outcome::unchanged(REDIRECT, input, Counters::new());
    outcome.frame = strip(frame, outer_len, change);
    outcome.count(delivery.stats, RX, input, outcome.frame.len());
    outcome
}

pub(super) fn underlay_filter(world: &World, input: &Input) -> Outcome {
    let passed = Outcome::unchanged(XDP_PASS, input, Counters::new());
    let drop = |refusal| Outcome::drop(XDP_DROP, input, Direction::Rx, refusal);
    let frame = &input.frame[..];
    let vxlan = match underlay::classify(frame, &world.vtep) {
        Ok(Outer::Foreign | Outer::Fallback(_)) => return passed,
        Ok(Outer::Vxlan(vxlan)) if !vxlan.is_for_us(world) => return passed,
        Ok(Outer::Vxlan(vxlan)) => vxlan,
        Err(reason) => return drop(Refusal::unattributed(reason)),
    };
    let outer_len = vxlan.outer_len;
    if !underlay::strips_early(frame, outer_len, &vxlan, &world.vtep) {
        return match underlay::filter(&vxlan, &world.vtep, world) {
            Ok(()) => passed,
            Err(refusal) => drop(refusal),
        };
    }
    let delivery = match underlay::admit(frame, outer_len, &vxlan, &world.vtep, world) {
        Ok(delivery) => delivery,
        Err(refusal) => return drop(refusal),
    };
    if let Receivers::Everyone { .. } = delivery.receivers {
        return passed;
    }
    match underlay::decapsulable(frame, outer_len, &vxlan, &delivery, false) {
        Ok(Ok(Strip { change, .. })) => Outcome {
            frame: strip(frame, outer_len, change),
            metadata: [world.vtep.cookie, vxlan.vni, delivery.peer]
                .map(u32::to_ne_bytes)
                .concat(),
            ..passed
        },
        Ok(Err(_)) => passed,
        Err(refusal) => drop(refusal),
    }
}

/// What is behind the outer headers, with the congestion mark that they had.
fn strip(frame: &[u8], outer_len: usize, change: Change) -> Vec<u8> {
    let mut inner = frame[outer_len..].to_vec();
    match change {
        Change::None => {}
        Change::V4 { tos, checksum } => {
            inner[14..16].copy_from_slice(&tos);
            inner[24..26].copy_from_slice(&checksum);
        }
        Change::V6 { traffic_class } => inner[14..16].copy_from_slice(&traffic_class),
    }
    inner
}

pub(super) fn to_underlay(world: &World, input: &Input) -> Outcome {
    match guard::guard(&input.frame[..], false, &world.vtep, world) {
        Ok(()) => Outcome::unchanged(NEXT, input, Counters::new()),
        Err(refusal) => Outcome::drop(SHOT, input, Direction::Tx, refusal),
    }
}

pub(super) fn from_fallback(_: &World, input: &Input) -> Outcome {
    let refusal = Refusal::unattributed(DropReason::NoVni);
    Outcome::drop(SHOT, input, Direction::Rx, refusal)
}

/// `bpf_skb_adjust_room` changes no aggregate but TCP's and UDP's, and `BPF_PROG_TEST_RUN` can give a
/// segment size but no segmentation type.
fn kernel_refuses(input: &Input) -> Option<FallbackCause> {
    (input.segments.size != 0).then_some(FallbackCause::RoomRefused)
}

/// `PACKET_OTHERHOST`, as `eth_type_trans` finds for the loopback device, whose MAC is zero.
fn is_for_another_host(frame: &[u8]) -> bool {
    let is_unicast = frame[0] & 1 == 0;
    is_unicast && frame[..6] != [0; 6]
}

/// Ethernet, IP, UDP and VXLAN in front of a frame of `len` bytes; the source port is zero.
fn outer(tunnel: &TunnelValue, vni: u32, len: usize, tos: u8) -> Vec<u8> {
    let (mut outer, ports) = if tunnel.flags & tunnel_flags::IPV6 == 0 {
        (ipv4(tunnel, len, tos), 34)
    } else {
        (ipv6(tunnel, len, tos), 54)
    };
    outer.extend([0, 0]);
    outer.extend(&tunnel.header[ports + 2..ports + 4]);
    outer.extend(be(len + 8 + 8));
    outer.extend([0, 0, 8, 0, 0, 0]);
    outer.extend((vni << 8).to_be_bytes());
    outer
}

fn be(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("fits an IP packet").to_be_bytes()
}

fn ipv6(tunnel: &TunnelValue, len: usize, tos: u8) -> Vec<u8> {
    let header = &tunnel.header;
    let mut outer = header[..14].to_vec();
    outer.extend([0x60 | tos >> 4, tos << 4, 0, 0]);
    outer.extend(be(len + 8 + 8));
    outer.extend([17, header[21]]);
    // Source and destination.
    outer.extend(&header[22..54]);
    outer
}

fn ipv4(tunnel: &TunnelValue, len: usize, tos: u8) -> Vec<u8> {
    let header = &tunnel.header;
    let mut outer = header[..14].to_vec();
    outer.extend([0x45, tos]);
    outer.extend(be(len + 20 + 8 + 8));
    outer.extend([0, 0, 0x40, 0, header[22], 17, 0, 0]);
    // Source and destination.
    outer.extend(&header[26..34]);
    let sum: u32 = outer[14..]
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let check = !(sum % 0xffff) as u16;
    outer[24..26].copy_from_slice(&check.to_be_bytes());
    outer
}
