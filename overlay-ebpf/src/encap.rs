//! TC ingress on an endpoint's veth.

use aya_ebpf::programs::TcContext;
use overlay_common::DropReason;
use overlay_common::decide::Refusal;
use overlay_common::decide::endpoint::{self, Forward, Sender};
use overlay_common::layout::{EndpointValue, TunnelValue};
use overlay_common::packet::Ethernet;
use overlay_common::packet::icmp::Problem;

use crate::access::SkbFrame;
use crate::flood;
use crate::maps::{self, KernelTables, TUNNELS};
use crate::tunnel::{self, Tunnelled};
use crate::{answer, icmp, route, verdict};

pub enum Encap {
    /// To a container of this host.
    Deliver { ifindex: u32 },
    /// On its way to a peer.
    Tunnelled(Tunnelled),
    /// Answered in place.
    Answer,
    /// Refused; what is left of the frame tells the sender why.
    Told(Refusal),
    /// Every receiver has a copy.
    Flooded,
}

#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<Encap, Refusal> {
    let ifindex = verdict::ifindex(ctx);
    let (Some(endpoint), Some(vtep)) = (maps::endpoint(ifindex), maps::vtep()) else {
        return Err(Refusal::unattributed(DropReason::UnknownInterface));
    };
    let frame = SkbFrame::new(ctx);
    let sender = Sender {
        ifindex,
        endpoint: &endpoint,
        tagged: frame.is_tagged(),
        vtep,
    };
    let (mut ethernet, mut forward) = endpoint::forward(&frame, &sender, &KernelTables)?;
    let refuse = |reason| Refusal::new(reason, endpoint.vni, 0);
    if let Forward::Routed { mac, entry } = forward {
        ethernet = route::take_hop(ctx, &frame, ethernet, mac).map_err(refuse)?;
        forward = Forward::to(&entry);
    }
    let (peer, stats) = match forward {
        Forward::Local { ifindex, stats } => {
            verdict::count_sent(stats, frame.segments(), frame.len());
            return Ok(Encap::Deliver { ifindex });
        }
        Forward::Remote { peer, stats } => (peer, stats),
        Forward::Answer(answer) => {
            return answer::write(ctx, ethernet, &answer)
                .map(|()| Encap::Answer)
                .map_err(|answer::Unanswered| refuse(DropReason::UnknownNeighbor));
        }
        Forward::Told { reason, problem } => {
            return tell(ctx, ethernet, &endpoint, problem, refuse(reason));
        }
        Forward::Flood => match flood::send(ctx, endpoint.vni).map_err(refuse)? {
            Some(group) => (group.peer, group.stats),
            None => return Ok(Encap::Flooded),
        },
        // What was routed goes to one receiver.
        Forward::Routed { .. } => return Err(refuse(DropReason::Unroutable)),
    };
    let refuse = |reason| Refusal::new(reason, endpoint.vni, peer);
    let Some(tunnel) = TUNNELS.get(peer) else {
        return Err(refuse(DropReason::NoRoute));
    };
    let (segments, bytes) = (frame.segments(), frame.len());
    match tunnel::enter(ctx, &ethernet, tunnel, endpoint.vni) {
        Ok(tunnelled) => {
            verdict::count_sent(stats, segments, bytes);
            Ok(Encap::Tunnelled(tunnelled))
        }
        Err(DropReason::TooBig) => tell(
            ctx,
            ethernet,
            &endpoint,
            too_big(tunnel),
            refuse(DropReason::TooBig),
        ),
        Err(reason) => Err(refuse(reason)),
    }
}

/// The largest inner IP packet that fits: the outer IP packet is as much larger as its Ethernet
/// header, which does not count, is long, and the inner one, which does.
#[inline(always)]
fn too_big(tunnel: &TunnelValue) -> Problem {
    Problem::TooBig {
        mtu: tunnel.mtu.saturating_sub(tunnel.header_len),
    }
}

#[inline(always)]
fn tell(
    ctx: &TcContext,
    ethernet: Ethernet,
    endpoint: &EndpointValue,
    problem: Problem,
    refusal: Refusal,
) -> Result<Encap, Refusal> {
    match icmp::tell(ctx, &ethernet, endpoint, problem) {
        Ok(()) => Ok(Encap::Told(refusal)),
        Err(answer::Unanswered) => Err(refusal),
    }
}
