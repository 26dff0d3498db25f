//! XDP: the early filter.

use aya_ebpf::programs::XdpContext;
use overlay_common::decide::Refusal;
use overlay_common::decide::underlay::{self, Outer};

use crate::access::XdpFrame;
use crate::maps::{self, KernelTables};

pub enum Filter {
    Pass,
}

#[inline(always)]
pub fn run(ctx: &XdpContext) -> Result<Filter, Refusal> {
    let Some(vtep) = maps::vtep() else {
        return Ok(Filter::Pass);
    };
    match underlay::classify(&XdpFrame(ctx), vtep).map_err(Refusal::unattributed)? {
        Outer::Foreign | Outer::Fallback(_) => Ok(Filter::Pass),
        Outer::Vxlan(vxlan) if vxlan.is_for_us(&KernelTables) => {
            underlay::filter(&vxlan, vtep, &KernelTables).map(|()| Filter::Pass)
        }
        Outer::Vxlan(_) => Ok(Filter::Pass),
    }
}
