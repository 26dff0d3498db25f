//! TC ingress on an endpoint's veth.

use aya_ebpf::programs::TcContext;
use overlay_common::DropReason;
use overlay_common::decide::Refusal;
use overlay_common::decide::endpoint::{self, Forward};

use crate::access::SkbFrame;
use crate::maps::{self, KernelTables, TUNNELS};
use crate::tunnel::{self, Tunnelled};
use crate::verdict;

pub enum Encap {
    /// To a container of this host.
    Deliver { ifindex: u32 },
    /// On its way to a peer.
    Tunnelled(Tunnelled),
    /// Answered in place.
    Answer,
}

#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<Encap, Refusal> {
    let Some(endpoint) = maps::endpoint(verdict::ifindex(ctx)) else {
        return Err(Refusal::unattributed(DropReason::UnknownInterface));
    };
    let frame = SkbFrame::new(ctx);
    let (ethernet, forward) =
        endpoint::forward(&frame, &endpoint, frame.is_tagged(), &KernelTables)?;
    let refuse = |reason, peer| Refusal::new(reason, endpoint.vni, peer);

    match forward {
        Forward::Local { ifindex, stats } => {
            verdict::count_sent(stats, frame.segments(), frame.len());
            Ok(Encap::Deliver { ifindex })
        }
        Forward::Answer { arp, mac } => {
            ctx.store(0, &arp.reply(mac), 0)
                .map_err(|_| refuse(DropReason::Truncated, 0))?;
            Ok(Encap::Answer)
        }
        Forward::Flood => Err(refuse(DropReason::FloodDisabled, 0)),
        Forward::Remote { peer, stats } => {
            let Some(tunnel) = TUNNELS.get(peer) else {
                return Err(refuse(DropReason::NoRoute, peer));
            };
            let (segments, bytes) = (frame.segments(), frame.len());
            let tunnelled = tunnel::enter(ctx, &frame, ethernet, tunnel, endpoint.vni)
                .map_err(|reason| refuse(reason, peer))?;
            verdict::count_sent(stats, segments, bytes);
            Ok(Encap::Tunnelled(tunnelled))
        }
    }
}
