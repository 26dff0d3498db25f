//! Copies of a frame for everybody on a network.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_clone_redirect, bpf_ktime_get_ns, bpf_loop};
use aya_ebpf::programs::TcContext;
use overlay_common::decide::{Refusal, flood, tunnel};
use overlay_common::layout::{FLOOD_MAX, FloodMode, FloodPeer, FloodValue, PeerIndex};
use overlay_common::packet::Ethernet;
use overlay_common::{Direction, DropReason};

use crate::access::SkbFrame;
use crate::maps::{self, KernelTables, TUNNELS};
use crate::{fallback, verdict};

/// What the loops share: one copy per entry of `list`.
struct Copies {
    skb: *mut __sk_buff,
    list: *const FloodValue,
    vni: u32,
    /// Where the frame came from, which gets no copy; 0 for a peer.
    sender: u32,
    /// Of the frame, for the counters.
    segments: u64,
    bytes: u32,
    /// The fallback device.
    fallback: u32,
    /// Whether copies to endpoints are counted as sent; those from a peer are received once.
    count: bool,
}

/// Floods an endpoint's frame to the other endpoints of this host and to the peers. What is left
/// to do with the frame itself is to send it to the network's group, if that is returned.
#[inline(always)]
pub fn send(ctx: &TcContext, vni: u32) -> Result<Option<FloodPeer>, DropReason> {
    let left = copies_of_endpoint(ctx.skb.skb, vni);
    match (left as u32, (left >> 32) as u32) {
        (0, 0) => Ok(None),
        (0, RATE) => Err(DropReason::FloodRate),
        (0, NO_GROUP) => Err(DropReason::NoRoute),
        (0, _) => Err(DropReason::FloodDisabled),
        (peer, stats) => Ok(Some(FloodPeer { peer, stats })),
    }
}

/// Floods a peer's frame to the endpoints of this host. Of a network that has ceased to flood
/// since the frame was let in, nobody is left.
#[inline(always)]
pub fn deliver(ctx: &TcContext, vni: u32) {
    copies_of_peer(ctx.skb.skb, vni);
}

const RATE: u32 = 1;
const DISABLED: u32 = 2;
const NO_GROUP: u32 = 3;

/// [`send`] in a frame of its own: the stack is 512 bytes for all functions together. A call takes
/// and gives plain numbers only: the lower half of the result is the group's peer index and the
/// upper one its slot in STATS; without a group, why nothing was sent.
#[inline(never)]
fn copies_of_endpoint(skb: *mut __sk_buff, vni: u32) -> u64 {
    let (peer, other) = match flood(&TcContext::new(skb), vni) {
        Ok(Some(group)) => (group.peer, group.stats),
        Ok(None) => (0, 0),
        Err(DropReason::FloodRate) => (0, RATE),
        Err(DropReason::NoRoute) => (0, NO_GROUP),
        Err(_) => (0, DISABLED),
    };
    u64::from(other) << 32 | u64::from(peer)
}

#[inline(always)]
fn flood(ctx: &TcContext, vni: u32) -> Result<Option<FloodPeer>, DropReason> {
    let frame = SkbFrame::new(ctx);
    let segments = frame.segments();
    let mode = within_rate(vni, segments)?;
    let (Some(list), Some(vtep)) = (maps::flood(vni), maps::vtep()) else {
        return Err(DropReason::FloodDisabled);
    };
    let mut copies = Copies {
        skb: ctx.skb.skb,
        list,
        vni,
        sender: verdict::ifindex(ctx),
        segments,
        bytes: frame.len(),
        fallback: vtep.fallback_ifindex,
        count: true,
    };
    to_endpoints(&mut copies);
    let peers = list_len(list, |list| list.peer_count);
    match mode {
        FloodMode::Drop => Err(DropReason::FloodDisabled),
        FloodMode::Replicate => {
            verdict::mark(ctx);
            each(peers, to_peer, &mut copies);
            Ok(None)
        }
        // The group is the only entry of the list of peers.
        // SAFETY: the element stays mapped until the program ends.
        FloodMode::Multicast if peers != 0 => Ok(Some(unsafe { (*list).peers[0] })),
        // The underlay has no address of the group's family.
        FloodMode::Multicast => Err(DropReason::NoRoute),
    }
}

#[inline(never)]
fn copies_of_peer(skb: *mut __sk_buff, vni: u32) -> u64 {
    if let Some(list) = maps::flood(vni) {
        to_endpoints(&mut Copies {
            skb,
            list,
            vni,
            sender: 0,
            segments: 0,
            bytes: 0,
            fallback: 0,
            count: false,
        });
    }
    0
}

/// The network's mode, if the frame is within its rate.
#[inline(always)]
fn within_rate(vni: u32, segments: u64) -> Result<FloodMode, DropReason> {
    use overlay_common::decide::Tables as _;

    let network = KernelTables.vni(vni).ok_or(DropReason::FloodDisabled)?;
    let clock = maps::flood_clock(vni).ok_or(DropReason::FloodRate)?;
    // SAFETY: the helper has no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the element stays mapped until the program ends; a value that another processor
    // writes meanwhile is one that this one might as well have read.
    let due = unsafe { *clock };
    let (mode, due) = flood::send(&network, due, now, segments)?;
    // SAFETY: as above.
    unsafe { *clock = due };
    Ok(mode)
}

#[inline(always)]
fn to_endpoints(copies: &mut Copies) {
    let count = list_len(copies.list, |list| list.local_count);
    each(count, to_endpoint, copies);
}

/// Entries in use of a list.
#[inline(always)]
fn list_len(list: *const FloodValue, count: impl Fn(&FloodValue) -> u32) -> u32 {
    // SAFETY: the element stays mapped until the program ends.
    count(unsafe { &*list }).min(FLOOD_MAX as u32)
}

/// A body of `bpf_loop`: 0 goes on, 1 ends the loop.
type Body = unsafe extern "C" fn(u64, *mut Copies) -> i64;

#[inline(always)]
fn each(count: u32, body: Body, copies: &mut Copies) {
    // SAFETY: the body takes an index and the context that is given here.
    unsafe {
        bpf_loop(
            count,
            body as *mut c_void,
            core::ptr::from_mut(copies).cast(),
            0,
        )
    };
}

/// A copy out of the host side of an endpoint's veth.
unsafe extern "C" fn to_endpoint(index: u64, copies: *mut Copies) -> i64 {
    let index = index as usize;
    if index >= FLOOD_MAX {
        return 1;
    }
    // SAFETY: `each` hands its context through, and the list stays mapped.
    let (copies, list) = unsafe { (&*copies, &*(*copies).list) };
    let ifindex = list.locals[index];
    if ifindex == copies.sender {
        return 0;
    }
    // SAFETY: the context pointer is valid while the program runs. A device that is gone gets no
    // copy, and the frame is as it was.
    let sent = unsafe { bpf_clone_redirect(copies.skb, ifindex, 0) } == 0;
    if !sent {
        let direction = if copies.count {
            Direction::Tx
        } else {
            Direction::Rx
        };
        let refusal = Refusal::new(DropReason::CopyFailed, copies.vni, 0);
        verdict::count_drop_silently(direction, refusal);
    } else if copies.count {
        verdict::count_sent(list.local_stats, copies.segments, copies.bytes);
    }
    0
}

/// A copy through the fallback device: the kernel makes the outer headers of any frame, to a peer
/// of either family.
unsafe extern "C" fn to_peer(index: u64, copies: *mut Copies) -> i64 {
    let index = index as usize;
    if index >= FLOOD_MAX {
        return 1;
    }
    // SAFETY: as in `to_endpoint`.
    let (copies, list) = unsafe { (&*copies, &*(*copies).list) };
    let receiver = list.peers[index];
    match copy(copies, receiver.peer) {
        Ok(()) => verdict::count_sent(receiver.stats, copies.segments, copies.bytes),
        Err(reason) => {
            let refusal = Refusal::new(reason, copies.vni, receiver.peer);
            verdict::count_drop_silently(Direction::Tx, refusal);
        }
    }
    0
}

#[inline(always)]
fn copy(copies: &Copies, peer: PeerIndex) -> Result<(), DropReason> {
    let ctx = TcContext::new(copies.skb);
    let tunnel = TUNNELS.get(peer).ok_or(DropReason::NoRoute)?;
    let frame = SkbFrame::new(&ctx);
    let ethernet = Ethernet::read(&frame, 0).ok_or(DropReason::Truncated)?;
    // By whichever path: here every copy takes the kernel's.
    tunnel::path(&frame, ethernet, frame.offload(), tunnel)?;
    let traffic_class = tunnel::traffic_class(&frame, ethernet, tunnel);
    fallback::mark(&ctx, tunnel, copies.vni, traffic_class)
        .map_err(|_| DropReason::FallbackFailed)?;
    // SAFETY: the context pointer is valid while the program runs.
    match unsafe { bpf_clone_redirect(copies.skb, copies.fallback, 0) } {
        0 => Ok(()),
        _ => Err(DropReason::FallbackFailed),
    }
}
