//! Decapsulation in XDP: `underlay_filter` takes the outer headers off, GRO merges what was inside,
//! `from_underlay` sends it on. What the one has found out reaches the other as metadata.

use core::hint::black_box;

use aya_ebpf::bindings::BPF_CSUM_LEVEL_DEC;
use aya_ebpf::helpers::{bpf_csum_level, bpf_xdp_adjust_head, bpf_xdp_adjust_meta};
use aya_ebpf::programs::{TcContext, XdpContext};
use overlay_common::DropReason;
use overlay_common::decide::Refusal;
use overlay_common::decide::underlay::{self, Change, Receivers, Vxlan};
use overlay_common::layout::{Handover, PeerIndex};
use overlay_common::packet::{ETH_LEN, OVERHEAD_V4, OVERHEAD_V6};

use crate::access::{self, SkbFrame, XdpFrame};
use crate::maps::{self, KernelTables};
use crate::verdict;

/// `PACKET_HOST` of `linux/if_packet.h`: for us.
const HOST: u32 = 0;

/// Admits a frame and takes its outer headers off, if this is the place; if not, it is only filtered,
/// and as it was. In a stack frame of its own, as all that comes one after the other here.
#[inline(never)]
pub fn strip(ctx: &XdpContext, vxlan: &Vxlan) -> Result<(), Refusal> {
    // Else the compiler passes the fields one by one, and there are five registers for that.
    let vxlan = black_box(vxlan);
    let Some(vtep) = maps::vtep() else {
        return Ok(());
    };
    let frame = &XdpFrame(ctx);
    // Bounded, so that the offsets behind it are.
    let outer_len = if vxlan.outer_len == OVERHEAD_V6 {
        OVERHEAD_V6
    } else {
        OVERHEAD_V4
    };
    if !underlay::strips_early(frame, outer_len, vxlan, vtep) {
        return underlay::filter(vxlan, vtep, &KernelTables);
    }
    let delivery = underlay::admit(frame, outer_len, vxlan, vtep, &KernelTables)?;
    let Receivers::One { .. } = delivery.receivers else {
        return Ok(());
    };
    // The driver merges nothing before XDP, so this is no aggregate.
    let Ok(strip) = underlay::decapsulable(frame, outer_len, vxlan, &delivery, false)? else {
        return Ok(());
    };
    let handover = Handover {
        cookie: vtep.cookie,
        vni: vxlan.vni,
        peer: delivery.peer,
    };
    // Room for it first: not every driver has that, and the frame is as it was until here.
    if !grow_metadata(ctx, size_of::<Handover>() as i32) {
        return Ok(());
    }
    let done = frame.hand_over(handover)
        && apply(frame, outer_len, strip.change)
        // The metadata moves along.
        // SAFETY: the context pointer is valid while the program runs.
        && unsafe { bpf_xdp_adjust_head(ctx.ctx, outer_len as i32) } == 0;
    if done {
        Ok(())
    } else {
        Err(Refusal::new(
            DropReason::DecapFailed,
            vxlan.vni,
            delivery.peer,
        ))
    }
}

#[inline(always)]
fn grow_metadata(ctx: &XdpContext, bytes: i32) -> bool {
    // SAFETY: the context pointer is valid while the program runs.
    unsafe { bpf_xdp_adjust_meta(ctx.ctx, -bytes) == 0 }
}

/// Writes the merged congestion mark into the inner packet behind `outer_len` bytes.
#[inline(always)]
fn apply(frame: &XdpFrame<'_>, outer_len: usize, change: Change) -> bool {
    let ip = outer_len + ETH_LEN;
    match change {
        Change::None => true,
        Change::V4 { tos, checksum } => frame.store(ip, tos) && frame.store(ip + 10, checksum),
        Change::V6 { traffic_class } => frame.store(ip, traffic_class),
    }
}

/// What [`strip`] has handed over with a frame, if it did. Metadata without our cookie are somebody
/// else's: the frame is what its headers say.
#[inline(always)]
pub fn handover(ctx: &TcContext) -> Option<Handover> {
    let handover = access::metadata(ctx)?;
    let vtep = maps::vtep()?;
    (vtep.cookie != 0 && handover.cookie == vtep.cookie).then_some(handover)
}

/// Where a frame goes that [`strip`] has taken out of its tunnel. The tables are asked again: between
/// the two, an endpoint may have gone.
#[inline(never)]
pub fn steer(ctx: &TcContext, vni: u32, peer: PeerIndex) -> Result<Receivers, Refusal> {
    let frame = &SkbFrame::new(ctx);
    if frame.is_tagged() {
        // Taken off by the device before XDP could see it: for another network on the same wire.
        return Err(Refusal::new(DropReason::Vlan, vni, peer));
    }
    let delivery = underlay::admit_inner(frame, 0, vni, peer, &KernelTables)?;
    // What a device has verified first is the outer checksum, and that is gone. What the kernel has
    // verified since is verified once more.
    // SAFETY: the context pointer is valid while the program runs.
    unsafe { bpf_csum_level(ctx.skb.skb, u64::from(BPF_CSUM_LEVEL_DEC)) };
    // The inner MAC is not the device's, so the kernel has marked the frame as another host's.
    let _ = ctx.change_type(HOST);
    // The queue was chosen for the underlay's device.
    // SAFETY: as above, and the field is writable.
    unsafe { (*ctx.skb.skb).queue_mapping = 0 };
    verdict::count_received(delivery.stats, frame.segments(), frame.len());
    Ok(delivery.receivers)
}
