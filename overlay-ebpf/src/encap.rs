//! TC ingress on an endpoint's veth.

use aya_ebpf::programs::TcContext;
use overlay_common::decide::Refusal;
use overlay_common::decide::endpoint::{self, Forward, Sender};
use overlay_common::net::MacAddr;
use overlay_common::packet::ETH_LEN;
use overlay_common::packet::arp::Arp;
use overlay_common::{Direction, DropReason};

use crate::access::SkbFrame;
use crate::flood;
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
    let frame = SkbFrame::new(ctx);
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
        Forward::Answer { mac } => {
            return if answer(ctx, mac) {
                verdict::redirect(ifindex)
            } else {
                drop(Refusal::new(DropReason::Truncated, vni, 0))
            };
        }
        Forward::Flood => match flood::send(ctx, vni) {
            Ok(Some(group)) => (group.peer, group.stats),
            Ok(None) => return verdict::CONSUMED,
            Err(reason) => return drop(Refusal::new(reason, vni, 0)),
        },
        Forward::Remote { peer, stats } => (peer, stats),
    };
    let Some(tunnel) = TUNNELS.get(peer) else {
        return drop(Refusal::new(DropReason::NoRoute, vni, peer));
    };
    let (segments, bytes) = (frame.segments(), frame.len());
    match tunnel::enter(ctx, &ethernet, tunnel, vni) {
        Ok(tunnelled) => {
            verdict::count_sent(stats, segments, bytes);
            verdict::transmit(tunnelled)
        }
        Err(reason) => drop(Refusal::new(reason, vni, peer)),
    }
}

/// Makes of an ARP request its answer. In a stack frame of its own, like all that makes headers: the
/// stack is 512 bytes for all functions on the way together.
#[inline(never)]
fn answer(ctx: &TcContext, mac: MacAddr) -> bool {
    let Some(arp) = Arp::read(&SkbFrame::new(ctx), ETH_LEN) else {
        return false;
    };
    ctx.store(0, &arp.reply(mac), 0).is_ok()
}
