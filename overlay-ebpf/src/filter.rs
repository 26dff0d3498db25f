//! XDP: the early filter.

use aya_ebpf::programs::XdpContext;
use overlay_common::DropReason;
use overlay_common::decide::Refusal;
use overlay_common::decide::underlay::{self, Outer};

use crate::access::XdpFrame;
use crate::early;
use crate::maps::{self, KernelTables};

pub enum Filter {
    /// As it was, or taken out of its tunnel.
    Pass,
}

#[inline(always)]
pub fn run(ctx: &XdpContext) -> Result<Filter, Refusal> {
    match classify(ctx).map_err(Refusal::unattributed)? {
        Outer::Vxlan(vxlan) if vxlan.is_for_us(&KernelTables) => {
            early::strip(ctx, &vxlan).map(|()| Filter::Pass)
        }
        Outer::Vxlan(_) | Outer::Foreign | Outer::Fallback(_) => Ok(Filter::Pass),
    }
}

/// What the frame is. In a stack frame of its own: the stack is 512 bytes for all functions on the
/// way together.
#[inline(never)]
fn classify(ctx: &XdpContext) -> Result<Outer, DropReason> {
    match maps::vtep() {
        Some(vtep) => underlay::classify(&XdpFrame(ctx), vtep),
        None => Ok(Outer::Foreign),
    }
}
