//! TC ingress on the underlay.

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO};
use aya_ebpf::programs::TcContext;
use overlay_common::decide::Refusal;
use overlay_common::decide::underlay::{self, Family, Outer, Receivers};
use overlay_common::packet::OVERHEAD_V4;
use overlay_common::{DropReason, FallbackCause};

use crate::access::SkbFrame;
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
    // SAFETY: the context pointer is valid while the program runs.
    if unsafe { (*ctx.skb.skb).pkt_type } == OTHERHOST {
        return Ok(Decap::Foreign);
    }
    let frame = SkbFrame::new(ctx);
    if frame.is_tagged() {
        // For another network on the same wire. The kernel knows its devices; one with priority
        // only comes back to us through the fallback device.
        return Ok(Decap::Foreign);
    }
    let Some(vtep) = maps::vtep() else {
        return Ok(Decap::Foreign);
    };
    let vxlan = match underlay::classify(&frame, vtep).map_err(Refusal::unattributed)? {
        Outer::Foreign => return Ok(Decap::Foreign),
        Outer::Fallback(cause) => return Ok(Decap::Fallback(cause)),
        Outer::Vxlan(vxlan) if vxlan.is_for_us(&KernelTables) => vxlan,
        Outer::Vxlan(_) => return Ok(Decap::Foreign),
    };
    let delivery = underlay::admit(&frame, OVERHEAD_V4, &vxlan, &KernelTables)?;
    let family = match underlay::decapsulable(&frame, delivery.inner, frame.gso_size() != 0) {
        Ok(family) => family,
        Err(cause) => return Ok(Decap::Fallback(cause)),
    };
    let segments = frame.segments();

    if take_out(ctx, family).is_err() {
        return Ok(Decap::Fallback(FallbackCause::RoomRefused));
    }
    // The queue was chosen for the underlay's device.
    // SAFETY: the context pointer is valid while the program runs, and the field is writable.
    unsafe { (*ctx.skb.skb).queue_mapping = 0 };
    ctx.store(0, &delivery.inner.to_bytes(), 0)
        .map_err(|_| Refusal::new(DropReason::DecapFailed, vxlan.vni, 0))?;
    verdict::count_received(delivery.stats, segments, ctx.len());
    Ok(Decap::Deliver(delivery.receivers))
}

/// Takes the 50 bytes after the Ethernet header out; the kernel refuses before it changes
/// anything. `FIXED_GSO` keeps the segment size, which is the inner one already.
#[inline(always)]
fn take_out(ctx: &TcContext, family: Family) -> Result<(), i64> {
    let family = match family {
        Family::V4 => 0,
        Family::V6 => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
    };
    ctx.skb.adjust_room(
        -(OVERHEAD_V4 as i32),
        BPF_ADJ_ROOM_MAC,
        u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | family),
    )
}
