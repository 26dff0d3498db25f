//! TC egress of the underlay: no VXLAN but ours.

use aya_ebpf::programs::TcContext;
use overlay_common::decide::Refusal;
use overlay_common::decide::guard;

use crate::access::SkbFrame;
use crate::maps::{self, KernelTables};

#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<(), Refusal> {
    // SAFETY: the context pointer is valid while the program runs.
    let (ingress, mark) = unsafe { ((*ctx.skb.skb).ingress_ifindex, (*ctx.skb.skb).mark) };
    let Some(vtep) = maps::vtep() else {
        return Ok(());
    };
    // The programs' own, also by way of the vxlan device, which makes a frame anew but for its mark.
    if mark == vtep.mark && mark != 0 {
        return Ok(());
    }
    // What the host sends came in nowhere.
    let forwarded = ingress != 0;
    let frame = SkbFrame::reaching(ctx, guard::reach);
    guard::guard(&frame, forwarded, vtep, &KernelTables)
}
