//! What an endpoint sends that is not plain unicast: answered, routed, flooded, or refused with a word
//! to the sender. Entered by a tail call, so that there is a whole stack for it.

use aya_ebpf::programs::TcContext;
use overlay_common::decide::endpoint::{self, Exception, Sender};
use overlay_common::decide::{Refusal, endpoint_of};
use overlay_common::layout::{PeerIndex, fdb_flags};
use overlay_common::net::MacAddr;
use overlay_common::packet::Ethernet;
use overlay_common::packet::icmp::Problem;
use overlay_common::{Direction, DropReason};

use crate::access::SkbFrame;
use crate::maps::{self, KernelTables, TUNNELS};
use crate::{answer, flood, icmp, route, service, tunnel, verdict};

mod packed;

/// Decides and acts; the program's verdict.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let ifindex = verdict::ifindex(ctx);
    let Some(vni) = maps::endpoint(ifindex).map(|endpoint| endpoint.vni) else {
        let refusal = Refusal::unattributed(DropReason::UnknownInterface);
        return verdict::drop(ctx, Direction::Tx, refusal);
    };
    let (decision, mac) = match packed::unpack(decide(ctx)) {
        (Ok(Exception::Discovery), _) => packed::unpack(decide_discovery(ctx)),
        decided => decided,
    };
    let exception = match decision {
        Ok(exception) => exception,
        Err(reason) => return drop(ctx, vni, 0, reason),
    };
    match exception {
        Exception::Arp => back(ctx, vni, answer::arp(ctx, mac)),
        Exception::Neighbor => back(ctx, vni, answer::neighbor(ctx, mac, false)),
        Exception::Router => back(ctx, vni, answer::neighbor(ctx, mac, true)),
        Exception::Echo => back(ctx, vni, answer::echo(ctx)),
        Exception::TimeExceeded => told(ctx, vni, 0, Problem::TIME_EXCEEDED),
        Exception::Unreachable => told(ctx, vni, 0, Problem::UNREACHABLE),
        Exception::Send => unicast(ctx, vni, mac),
        Exception::Route if route::take_hop(ctx, mac) => unicast(ctx, vni, mac),
        Exception::Route => drop(ctx, vni, 0, DropReason::EncapFailed),
        Exception::Flood => match flood::send(ctx, vni) {
            Ok(Some(group)) => send(ctx, vni, group.peer, group.stats),
            Ok(None) => verdict::CONSUMED,
            Err(reason) => drop(ctx, vni, 0, reason),
        },
        Exception::Service => match service::enter(ctx) {
            0 => told(ctx, vni, 0, Problem::NO_SERVICE),
            service::FAILED => drop(ctx, vni, 0, DropReason::AnswerFailed),
            ifindex => verdict::redirect_peer(ifindex),
        },
        // It has been decided.
        Exception::Discovery => drop(ctx, vni, 0, DropReason::BadNeighbor),
    }
}

/// In a stack frame of its own, which is most of the stack: so the result is a plain number.
#[inline(never)]
fn decide(ctx: &TcContext) -> u64 {
    decide_by(ctx, |frame, sender, mac| {
        endpoint::exception(frame, sender, &KernelTables, mac)
    })
}

/// As [`decide`].
#[inline(never)]
fn decide_discovery(ctx: &TcContext) -> u64 {
    decide_by(ctx, |frame, sender, mac| {
        endpoint::discovery(frame, sender, &KernelTables, mac)
    })
}

#[inline(always)]
fn decide_by(
    ctx: &TcContext,
    decide: impl FnOnce(&SkbFrame<'_>, &Sender<'_>, &mut MacAddr) -> Result<Exception, DropReason>,
) -> u64 {
    let mut mac = MacAddr::default();
    let ifindex = verdict::ifindex(ctx);
    let (Some(endpoint), Some(vtep)) = (maps::endpoint(ifindex), maps::vtep()) else {
        return packed::pack(Err(DropReason::UnknownInterface), mac);
    };
    let frame = SkbFrame::new(ctx);
    let sender = Sender {
        ifindex,
        endpoint,
        tagged: frame.is_tagged(),
        vtep,
    };
    let decision = decide(&frame, &sender, &mut mac);
    packed::pack(decision, mac)
}

#[inline(always)]
fn drop(ctx: &TcContext, vni: u32, peer: PeerIndex, reason: DropReason) -> i32 {
    verdict::drop(ctx, Direction::Tx, Refusal::new(reason, vni, peer))
}

/// An answer goes where the question came from.
#[inline(always)]
fn back(ctx: &TcContext, vni: u32, written: bool) -> i32 {
    if written {
        verdict::redirect(verdict::ifindex(ctx))
    } else {
        drop(ctx, vni, 0, DropReason::AnswerFailed)
    }
}

/// The frame is dropped, and what is left of it tells the sender why.
#[inline(always)]
fn told(ctx: &TcContext, vni: u32, peer: PeerIndex, problem: Problem) -> i32 {
    let verdict = drop(ctx, vni, peer, problem.kind.reason());
    if icmp::tell(ctx, problem) {
        verdict::redirect(verdict::ifindex(ctx))
    } else {
        verdict
    }
}

/// To the endpoint with this MAC, if it is still there.
#[inline(always)]
fn unicast(ctx: &TcContext, vni: u32, mac: MacAddr) -> i32 {
    match endpoint_of(&KernelTables, vni, mac) {
        Some(entry) if entry.ifindex != 0 => {
            let frame = SkbFrame::new(ctx);
            verdict::count_sent(entry.stats, frame.segments(), frame.len());
            verdict::redirect_peer(entry.ifindex)
        }
        Some(entry) if entry.flags & fdb_flags::GATEWAY == 0 => {
            send(ctx, vni, entry.peer, entry.stats)
        }
        Some(_) | None => drop(ctx, vni, 0, DropReason::UnknownDestination),
    }
}

/// Through the tunnel to a peer. In a stack frame of its own, so that it is there once.
#[inline(never)]
fn send(ctx: &TcContext, vni: u32, peer: PeerIndex, stats: u32) -> i32 {
    let frame = SkbFrame::new(ctx);
    let Some(ethernet) = Ethernet::read(&frame, 0) else {
        return drop(ctx, vni, peer, DropReason::Truncated);
    };
    let Some(tunnel) = TUNNELS.get(peer) else {
        return drop(ctx, vni, peer, DropReason::NoRoute);
    };
    let (segments, bytes) = (frame.segments(), frame.len());
    match tunnel::enter(ctx, &ethernet, tunnel, vni) {
        Ok(tunnelled) => {
            verdict::count_sent(stats, segments, bytes);
            verdict::transmit(ctx, tunnelled)
        }
        Err(DropReason::TooBig) => told(ctx, vni, peer, Problem::too_big(tunnel)),
        Err(reason) => drop(ctx, vni, peer, reason),
    }
}
