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
    // Redirected from an endpoint, or forwarded: the host has not made it.
    if ingress != 0 {
        return Ok(());
    }
    let Some(vtep) = maps::vtep() else {
        return Ok(());
    };
    // The vxlan device forgets where a frame came in, but not its mark.
    if mark == vtep.mark && mark != 0 {
        return Ok(());
    }
    guard::guard(&SkbFrame::new(ctx), vtep, &KernelTables)
}
