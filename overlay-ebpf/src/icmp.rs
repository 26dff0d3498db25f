//! Errors that go back to an endpoint in the gateway's name.

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::programs::TcContext;
use overlay_common::decide::Tables as _;
use overlay_common::layout::EndpointValue;
use overlay_common::net::MacAddr;
use overlay_common::packet::icmp::{
    ERROR_V4_LEN, ERROR_V6_LEN, Problem, ProblemKind, error_v4, error_v6, quote_len,
};
use overlay_common::packet::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Packet as _};

use crate::access::SkbFrame;
use crate::answer::resize;
use crate::maps::{self, KernelTables};
use crate::verdict;

/// Makes of a frame the error about it. `false` where there is none to be sent; then the frame must
/// be dropped, and may have been changed.
#[inline(always)]
pub fn tell(ctx: &TcContext, problem: Problem) -> bool {
    match Ethernet::read(&SkbFrame::new(ctx), 0) {
        Some(ethernet) if ethernet.ethertype == ETHERTYPE_IPV4 => {
            tell_v4(ctx, problem.kind, problem.mtu)
        }
        Some(ethernet) if ethernet.ethertype == ETHERTYPE_IPV6 => {
            tell_v6(ctx, problem.kind, problem.mtu)
        }
        Some(_) | None => false,
    }
}

/// In a stack frame of its own, as is [`tell_v6`], and with plain arguments.
#[inline(never)]
fn tell_v4(ctx: &TcContext, kind: ProblemKind, mtu: u32) -> bool {
    let frame = SkbFrame::new(ctx);
    let (Some(endpoint), Some(ethernet), Some(error)) = (
        maps::endpoint(verdict::ifindex(ctx)),
        Ethernet::read(&frame, 0),
        maps::scratch::<ERROR_V4_LEN>(),
    ) else {
        return false;
    };
    let (mac, problem) = (gateway_mac(&ethernet, endpoint), Problem { kind, mtu });
    error_v4(&frame, ethernet, mac, endpoint.gateway4, problem, error).is_some()
        && make_room(ctx, frame.frame_len(), ERROR_V4_LEN)
        && ctx.store(0, error, 0).is_ok()
}

#[inline(never)]
fn tell_v6(ctx: &TcContext, kind: ProblemKind, mtu: u32) -> bool {
    let frame = SkbFrame::new(ctx);
    let (Some(endpoint), Some(ethernet), Some(error)) = (
        maps::endpoint(verdict::ifindex(ctx)),
        Ethernet::read(&frame, 0),
        maps::scratch::<ERROR_V6_LEN>(),
    ) else {
        return false;
    };
    let (mac, problem) = (gateway_mac(&ethernet, endpoint), Problem { kind, mtu });
    error_v6(&frame, ethernet, mac, endpoint.gateway6, problem, error).is_some()
        && make_room(ctx, frame.frame_len(), ERROR_V6_LEN)
        && ctx.store(0, error, 0).is_ok()
}

/// The gateway's, or, on a network that has none, of whom the packet was for.
#[inline(always)]
fn gateway_mac(ethernet: &Ethernet, endpoint: &EndpointValue) -> MacAddr {
    KernelTables
        .vni(endpoint.vni)
        .map(|network| network.gateway_mac)
        .filter(|mac| !mac.is_zero())
        .unwrap_or(ethernet.destination)
}

/// Cuts the frame to what is quoted and makes room for the headers in front of it.
#[inline(always)]
fn make_room(ctx: &TcContext, frame: usize, headers: usize) -> bool {
    resize(ctx, (ETH_LEN + quote_len(frame)) as u32)
        && ctx
            .skb
            .adjust_room((headers - ETH_LEN) as i32, BPF_ADJ_ROOM_MAC, 0)
            .is_ok()
}
