//! TC ingress on the underlay.

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    BPF_CSUM_LEVEL_QUERY, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
    BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_RECOMPUTE_CSUM,
};
use aya_ebpf::helpers::bpf_csum_level;
use aya_ebpf::programs::TcContext;
use overlay_common::decide::Refusal;
use overlay_common::decide::underlay::{self, Change, Family, Outer, Receivers, Vxlan};
use overlay_common::packet::{ETH_LEN, OVERHEAD_V4, OVERHEAD_V6};
use overlay_common::{DropReason, FallbackCause};

use crate::access::SkbFrame;
use crate::early;
use crate::maps::{self, KernelTables};
use crate::verdict;

pub enum Decap {
    Foreign,
    Fallback(FallbackCause),
    Deliver(Receivers),
}

/// `PACKET_OTHERHOST` of `linux/if_packet.h`: for another MAC, seen in promiscuous mode.
const OTHERHOST: u32 = 3;

#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<Decap, Refusal> {
    if let Some(handover) = early::handover(ctx) {
        return early::steer(ctx, handover.vni, handover.peer).map(Decap::Deliver);
    }
    let vxlan = match classify(ctx).map_err(Refusal::unattributed)? {
        Outer::Foreign => return Ok(Decap::Foreign),
        Outer::Fallback(cause) => return Ok(Decap::Fallback(cause)),
        Outer::Vxlan(vxlan) if vxlan.is_for_us(&KernelTables) => vxlan,
        Outer::Vxlan(_) => return Ok(Decap::Foreign),
    };
    if vxlan.has_checksum && !is_verified(ctx) {
        return Ok(Decap::Fallback(FallbackCause::OuterChecksum));
    }
    // SAFETY: the context pointer is valid while the program runs.
    if unsafe { (*ctx.skb.skb).vlan_present } != 0 {
        return Ok(Decap::Fallback(FallbackCause::OuterPriority));
    }
    deliver(ctx, &vxlan)
}

/// What the frame is.
#[inline(always)]
fn classify(ctx: &TcContext) -> Result<Outer, DropReason> {
    // SAFETY: the context pointer is valid while the program runs.
    if unsafe { (*ctx.skb.skb).pkt_type } == OTHERHOST {
        return Ok(Outer::Foreign);
    }
    let frame = SkbFrame::reaching(ctx, underlay::reach);
    let Some(vtep) = maps::vtep() else {
        return Ok(Outer::Foreign);
    };
    if frame.is_tagged() && !frame.has_priority_only() {
        // For another network on the same wire, whose device the kernel knows.
        return Ok(Outer::Foreign);
    }
    underlay::classify(&frame, vtep)
}

/// Admits a frame behind its outer headers and takes them off.
#[inline(always)]
fn deliver(ctx: &TcContext, vxlan: &Vxlan) -> Result<Decap, Refusal> {
    let Some(vtep) = maps::vtep() else {
        return Ok(Decap::Foreign);
    };
    let frame = &SkbFrame::as_it_is(ctx);
    // Bounded, so that the offsets behind it are.
    let outer_len = if vxlan.outer_len == OVERHEAD_V6 {
        OVERHEAD_V6
    } else {
        OVERHEAD_V4
    };
    let delivery = underlay::admit(frame, outer_len, vxlan, vtep, &KernelTables)?;
    let aggregate = frame.gso_size() != 0;
    let strip = match underlay::decapsulable(frame, outer_len, vxlan, &delivery, aggregate)? {
        Ok(strip) => strip,
        Err(cause) => return Ok(Decap::Fallback(cause)),
    };
    let segments = frame.segments();

    if take_out(ctx, outer_len, strip.family).is_err() {
        return Ok(Decap::Fallback(FallbackCause::RoomRefused));
    }
    let failed = |_| Refusal::new(DropReason::DecapFailed, vxlan.vni, delivery.peer);
    // The queue was chosen for the underlay's device.
    // SAFETY: the context pointer is valid while the program runs, and the field is writable.
    unsafe { (*ctx.skb.skb).queue_mapping = 0 };
    // By a helper: in front of a program that writes by itself the kernel makes clones writable, whosever
    // frames they are, and forgets what XDP has handed over.
    ctx.store(0, &delivery.inner.to_bytes(), 0)
        .map_err(failed)?;
    apply(ctx, strip.change).map_err(failed)?;
    verdict::count_received(delivery.stats, segments, ctx.len());
    Ok(Decap::Deliver(delivery.receivers))
}

/// Whether the driver or GRO has verified the outer UDP checksum. What it says is of the outer
/// packet alone: `adjust_room` takes it back, and the inner checksums are the receiver's.
#[inline(always)]
fn is_verified(ctx: &TcContext) -> bool {
    // SAFETY: the context pointer is valid while the program runs.
    unsafe { bpf_csum_level(ctx.skb.skb, u64::from(BPF_CSUM_LEVEL_QUERY)) >= 0 }
}

/// Takes the bytes after the Ethernet header out; the kernel refuses before it changes anything.
/// `FIXED_GSO` keeps the segment size, which is the inner one already.
#[inline(always)]
fn take_out(ctx: &TcContext, outer_len: usize, family: Family) -> Result<(), i64> {
    let family = match family {
        Family::V4 => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
        Family::V6 => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
    };
    ctx.skb.adjust_room(
        -(outer_len as i32),
        BPF_ADJ_ROOM_MAC,
        u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | family),
    )
}

/// Writes the merged congestion mark; a checksum of the whole packet that the device has computed
/// (`CHECKSUM_COMPLETE`) follows.
#[inline(always)]
fn apply(ctx: &TcContext, change: Change) -> Result<(), i64> {
    const IP_CHECKSUM: usize = ETH_LEN + 10;
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    match change {
        Change::None => Ok(()),
        Change::V4 { tos, checksum } => {
            ctx.store(ETH_LEN, &tos, flags)?;
            ctx.store(IP_CHECKSUM, &checksum, flags)
        }
        Change::V6 { traffic_class } => ctx.store(ETH_LEN, &traffic_class, flags),
    }
}
