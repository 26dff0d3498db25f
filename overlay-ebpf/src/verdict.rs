//! How a program ends: redirects, counters, the one exit of every drop.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{TC_ACT_SHOT, tcx_action_base::TCX_NEXT, xdp_action::XDP_DROP};
use aya_ebpf::helpers;
use aya_ebpf::programs::{TcContext, XdpContext};
use aya_log_ebpf::debug;
use overlay_common::decide::Refusal;
use overlay_common::layout::{DropKey, fallback_index};
use overlay_common::{Direction, DropReason, FallbackCause};

use crate::maps::{self, DROPS, FALLBACKS, STATS};
use crate::tunnel::Tunnelled;

/// Whatever is attached behind us, then the stack.
pub const NEXT: i32 = TCX_NEXT;

/// Every receiver has a copy: the frame itself has done its duty.
pub const CONSUMED: i32 = TC_ACT_SHOT;

/// Counts the drop under its reason and drops.
#[inline(always)]
pub fn drop(ctx: &TcContext, direction: Direction, refusal: Refusal) -> i32 {
    dropped(ctx, direction, refusal.reason, refusal.vni, refusal.peer)
}

/// [`drop`] with plain arguments, for a stack frame of its own: the stack is 512 bytes for all
/// functions on the way together.
#[inline(never)]
fn dropped(ctx: &TcContext, direction: Direction, reason: DropReason, vni: u32, peer: u32) -> i32 {
    count_drop(ctx, direction, Refusal::new(reason, vni, peer));
    TC_ACT_SHOT
}

/// Counts the drop under its reason and drops, before there is an skb.
#[inline(always)]
pub fn drop_early(ctx: &XdpContext, refusal: Refusal) -> u32 {
    dropped_early(ctx, refusal.reason, refusal.vni, refusal.peer)
}

/// As [`dropped`].
#[inline(never)]
fn dropped_early(ctx: &XdpContext, reason: DropReason, vni: u32, peer: u32) -> u32 {
    count_drop(ctx, Direction::Rx, Refusal::new(reason, vni, peer));
    XDP_DROP
}

/// Counts the drop under its reason, and logs it where that is wanted.
#[inline(always)]
fn count_drop<C: EbpfContext>(ctx: &C, direction: Direction, refusal: Refusal) {
    let count = count_drop_silently(direction, refusal);
    if count.is_power_of_two() && maps::vtep().is_some_and(|vtep| vtep.log_drops != 0) {
        debug!(
            ctx,
            "dropped: {} {} vni {} peer {} count {}",
            direction.label(),
            refusal.reason.label(),
            refusal.vni,
            refusal.peer,
            count
        );
    }
}

/// Counts the drop under its reason; how many there were on this CPU. Logging is most of what the
/// verifier has to follow: once in a program is enough.
#[inline(always)]
pub fn count_drop_silently(direction: Direction, refusal: Refusal) -> u64 {
    let key = DropKey::new(refusal.vni, refusal.peer, direction, refusal.reason);
    if let Some(count) = DROPS.get_ptr_mut(key) {
        // SAFETY: the element is this CPU's and stays mapped until the program ends.
        unsafe {
            *count += 1;
            *count
        }
    } else {
        // A full map loses the count, not the drop.
        let _ = DROPS.insert(key, 1, 0);
        1
    }
}

/// Counts `segments` frames of `bytes` bytes in all towards a peer, or between two endpoints of
/// this host.
#[inline(always)]
pub fn count_sent(slot: u32, segments: u64, bytes: u32) {
    if let Some(stats) = STATS.get_ptr_mut(slot) {
        // SAFETY: the element is this CPU's and stays mapped until the program ends.
        unsafe {
            (*stats).tx_packets += segments;
            (*stats).tx_bytes += u64::from(bytes);
        }
    }
}

/// Counts `segments` frames of `bytes` inner bytes in all from a peer.
#[inline(always)]
pub fn count_received(slot: u32, segments: u64, bytes: u32) {
    if let Some(stats) = STATS.get_ptr_mut(slot) {
        // SAFETY: as in `count_sent`.
        unsafe {
            (*stats).rx_packets += segments;
            (*stats).rx_bytes += u64::from(bytes);
        }
    }
}

#[inline(always)]
fn count_fallback(direction: Direction, cause: FallbackCause) {
    if let Some(count) = FALLBACKS.get_ptr_mut(fallback_index(direction, cause)) {
        // SAFETY: as in `count_sent`.
        unsafe { *count += 1 };
    }
}

/// The stack reassembles, verifies and decapsulates; `from_fallback` sees the result, and by the mark
/// that it came this way.
#[inline(always)]
pub fn leave_to_kernel(ctx: &TcContext, cause: FallbackCause) -> i32 {
    count_fallback(Direction::Rx, cause);
    mark(ctx);
    NEXT
}

/// Marks a frame as the programs' own.
#[inline(always)]
pub fn mark(ctx: &TcContext) {
    if let Some(vtep) = maps::vtep() {
        // SAFETY: the context pointer is valid while the program runs, and the field is writable.
        unsafe { (*ctx.skb.skb).mark = vtep.mark };
    }
}

/// Towards a peer.
#[inline(always)]
pub fn transmit(ctx: &TcContext, tunnelled: Tunnelled) -> i32 {
    mark(ctx);
    match tunnelled {
        Tunnelled::Transmit { ifindex } => redirect(ifindex),
        Tunnelled::Resolve { ifindex } => {
            count_fallback(Direction::Tx, FallbackCause::NoNeighbor);
            redirect_neigh(ifindex)
        }
        Tunnelled::Fallback { ifindex, cause } => fallback(ifindex, Direction::Tx, cause),
    }
}

/// Out through the fallback device, which encapsulates by the tunnel key set before.
#[inline(always)]
fn fallback(ifindex: u32, direction: Direction, cause: FallbackCause) -> i32 {
    count_fallback(direction, cause);
    redirect(ifindex)
}

/// Out of a device of this namespace.
#[inline(always)]
pub fn redirect(ifindex: u32) -> i32 {
    // SAFETY: the helper takes plain numbers.
    unsafe { helpers::bpf_redirect(ifindex, 0) as i32 }
}

/// Out of a device, the kernel filling in the next hop's MAC.
#[inline(always)]
pub fn redirect_neigh(ifindex: u32) -> i32 {
    // SAFETY: without parameters the helper looks the next hop up itself.
    unsafe { helpers::bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
}

/// Into the namespace at the other end of a veth.
#[inline(always)]
pub fn redirect_peer(ifindex: u32) -> i32 {
    // SAFETY: the helper takes plain numbers.
    unsafe { helpers::bpf_redirect_peer(ifindex, 0) as i32 }
}

/// The device the frame came in by.
#[inline(always)]
pub fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context pointer is valid while the program runs.
    unsafe { (*ctx.skb.skb).ifindex }
}
