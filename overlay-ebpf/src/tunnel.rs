//! Into a tunnel: outer headers, or the metadata for the kernel to make them of.

use core::hint::black_box;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
};
use aya_ebpf::helpers::bpf_get_hash_recalc;
use aya_ebpf::programs::TcContext;
use overlay_common::decide::tunnel::{self, Path};
use overlay_common::layout::{TunnelValue, tunnel_flags};
use overlay_common::packet::encap::{Variable, headers_v4, headers_v6};
use overlay_common::packet::flow::source_port;
use overlay_common::packet::{ETH_LEN, Ethernet, OVERHEAD_V4, OVERHEAD_V6};
use overlay_common::{DropReason, FallbackCause};

use crate::access::SkbFrame;
use crate::{fallback, maps};

/// How a frame goes to a peer.
#[derive(Clone, Copy)]
pub enum Tunnelled {
    /// Encapsulated, next hop known.
    Transmit { ifindex: u32 },
    /// Encapsulated, the kernel has to resolve the next hop.
    Resolve { ifindex: u32 },
    /// Marked for the fallback device.
    Fallback { ifindex: u32, cause: FallbackCause },
}

/// `ENCAP_L2` is the inner Ethernet header alone: with the VXLAN header counted in, UDP-tunnel
/// segmentation would look for the inner packet 8 bytes off.
const ROOM_FLAGS: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64
    | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64
    | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64
    | (ETH_LEN as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;

/// Outer headers, or the metadata for the fallback device to make them of.
///
/// In a frame of its own: the stack is 512 bytes for all functions together.
#[inline(never)]
pub fn enter(
    ctx: &TcContext,
    ethernet: &Ethernet,
    tunnel: &TunnelValue,
    vni: u32,
) -> Result<Tunnelled, DropReason> {
    let cause = match encapsulate(ctx, *ethernet, tunnel, vni)? {
        Ok(tunnelled) => return Ok(tunnelled),
        Err(cause) => cause,
    };
    let vtep = maps::vtep().ok_or(DropReason::FallbackFailed)?;
    let traffic_class = tunnel::traffic_class(&SkbFrame::new(ctx), *ethernet, tunnel);
    fallback::mark(ctx, tunnel, vni, traffic_class).map_err(|_| DropReason::FallbackFailed)?;
    // SAFETY: the context pointer is valid while the program runs, and the field is writable.
    unsafe { (*ctx.skb.skb).mark = vtep.mark };
    Ok(Tunnelled::Fallback {
        ifindex: vtep.fallback_ifindex,
        cause,
    })
}

/// Outer headers, or why the fast path cannot make them; then the frame is as it was. A refusal says
/// that it fits no path, and the frame is as it was, too, but after `EncapFailed`.
#[inline(always)]
pub fn encapsulate(
    ctx: &TcContext,
    ethernet: Ethernet,
    tunnel: &TunnelValue,
    vni: u32,
) -> Result<Result<Tunnelled, FallbackCause>, DropReason> {
    let frame = &SkbFrame::new(ctx);
    if let Path::Fallback(cause) = tunnel::path(frame, ethernet, frame.offload(), tunnel)? {
        return Ok(Err(cause));
    }
    let variable = Variable {
        inner: ethernet,
        inner_len: ctx.len() as u16,
        vni,
        source_port: source_port(flow_hash(ctx)),
        traffic_class: tunnel::traffic_class(frame, ethernet, tunnel),
    };
    if !put_headers(ctx, tunnel, &variable)? {
        return Ok(Err(FallbackCause::RoomRefused));
    }
    let ifindex = tunnel.ifindex;
    Ok(Ok(if tunnel.flags & tunnel_flags::RESOLVED == 0 {
        Tunnelled::Resolve { ifindex }
    } else {
        Tunnelled::Transmit { ifindex }
    }))
}

/// Makes room after the Ethernet header for the outer headers and the inner Ethernet header, which
/// are then written in one piece. `false` when the kernel refuses, which it does before it changes
/// anything: a frame that a tunnel inside the container has marked as encapsulated, segmentation
/// other than TCP's and UDP's.
#[inline(always)]
fn put_headers(
    ctx: &TcContext,
    tunnel: &TunnelValue,
    variable: &Variable,
) -> Result<bool, DropReason> {
    let stored = if tunnel.is_ipv6() {
        if make_room(ctx, OVERHEAD_V6, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6).is_err() {
            return Ok(false);
        }
        store_v6(ctx, tunnel, variable)
    } else {
        if make_room(ctx, OVERHEAD_V4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4).is_err() {
            return Ok(false);
        }
        store_v4(ctx, tunnel, variable)
    };
    if stored {
        Ok(true)
    } else {
        Err(DropReason::EncapFailed)
    }
}

/// In a stack frame of its own, as is [`store_v6`]: the stack is 512 bytes for all functions on the
/// way together.
#[inline(never)]
fn store_v4(ctx: &TcContext, tunnel: &TunnelValue, variable: &Variable) -> bool {
    let variable = black_box(variable);
    ctx.store(0, &headers_v4(&tunnel.header, variable), 0)
        .is_ok()
}

#[inline(never)]
fn store_v6(ctx: &TcContext, tunnel: &TunnelValue, variable: &Variable) -> bool {
    let variable = black_box(variable);
    ctx.store(0, &headers_v6(&tunnel.header, variable), 0)
        .is_ok()
}

#[inline(always)]
fn make_room(ctx: &TcContext, overhead: usize, family: u32) -> Result<(), i64> {
    ctx.skb.adjust_room(
        overhead as i32,
        BPF_ADJ_ROOM_MAC,
        ROOM_FLAGS | u64::from(family),
    )
}

/// The socket's hash where the kernel has set one, else of the inner flow.
#[inline(always)]
fn flow_hash(ctx: &TcContext) -> u32 {
    // SAFETY: the context pointer is valid while the program runs.
    let hash = unsafe { (*ctx.skb.skb).hash };
    if hash != 0 {
        return hash;
    }
    // SAFETY: as above.
    unsafe { bpf_get_hash_recalc(ctx.skb.skb) }
}
