//! TC ingress on an endpoint's veth: what is plain unicast.

use aya_ebpf::programs::TcContext;
use overlay_common::decide::Refusal;
use overlay_common::decide::endpoint::{self, Forward, Sender};
use overlay_common::{Direction, DropReason};

use crate::access::SkbFrame;
use crate::maps::{self, KernelTables, TUNNELS};
use crate::tunnel;
use crate::verdict;

/// Decides and acts; the program's verdict. Nothing is returned on the way but plain numbers: of an
/// enum the compiler copies bytes that were never written, which the verifier refuses.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let drop = |refusal| verdict::drop(ctx, Direction::Tx, refusal);
    let ifindex = verdict::ifindex(ctx);
    let (Some(endpoint), Some(vtep)) = (maps::endpoint(ifindex), maps::vtep()) else {
        return drop(Refusal::unattributed(DropReason::UnknownInterface));
    };
    let frame = SkbFrame::reaching(ctx, endpoint::reach);
    let sender = Sender {
        ifindex,
        endpoint,
        tagged: frame.is_tagged(),
        vtep,
    };
    let vni = endpoint.vni;
    let (ethernet, forward) = match endpoint::forward(&frame, &sender, &KernelTables) {
        Ok(decided) => decided,
        Err(refusal) => return drop(refusal),
    };
    let (peer, stats) = match forward {
        Forward::Local { ifindex, stats } => {
            verdict::count_sent(stats, frame.segments(), frame.len());
            return verdict::redirect_peer(ifindex);
        }
        Forward::Remote { peer, stats } => (peer, stats),
        Forward::Exception => return exception(ctx, vni),
    };
    let Some(tunnel) = TUNNELS.get(peer) else {
        return drop(Refusal::new(DropReason::NoRoute, vni, peer));
    };
    let (segments, bytes) = (frame.segments(), frame.len());
    match tunnel::encapsulate(ctx, &ethernet, tunnel, vni) {
        Ok(Some(tunnelled)) => {
            verdict::count_sent(stats, segments, bytes);
            verdict::transmit(ctx, tunnelled)
        }
        // The frame is as it was: it takes the fallback path, or the sender is told.
        Ok(None) | Err(DropReason::TooBig) => exception(ctx, vni),
        Err(reason) => drop(Refusal::new(reason, vni, peer)),
    }
}

/// The rest of the frame's way is the second program's.
#[inline(always)]
fn exception(ctx: &TcContext, vni: u32) -> i32 {
    maps::call_endpoint_exception(ctx);
    let refusal = Refusal::new(DropReason::NoProgram, vni, 0);
    verdict::drop(ctx, Direction::Tx, refusal)
}
