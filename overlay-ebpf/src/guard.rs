//! TC egress of the underlay: what processes of this host send in the data path's name.

use aya_ebpf::programs::TcContext;
use overlay_common::decide::{Refusal, guard};

use crate::access::SkbFrame;
use crate::maps::{self, KernelTables};

#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<(), Refusal> {
    // SAFETY: the context pointer is valid while the program runs.
    let (ingress, mark) = unsafe { ((*ctx.skb.skb).ingress_ifindex, (*ctx.skb.skb).mark) };
    // Redirected by the programs, or forwarded: it came in by some device.
    if ingress != 0 {
        return Ok(());
    }
    let Some(vtep) = maps::vtep() else {
        return Ok(());
    };
    if vtep.mark != 0 && mark == vtep.mark {
        return Ok(());
    }
    guard::inspect(&SkbFrame::sent(ctx), vtep, &KernelTables)
}
