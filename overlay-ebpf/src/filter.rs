//! XDP: the early filter.

use aya_ebpf::programs::XdpContext;
use overlay_common::decide::Refusal;
use overlay_common::decide::underlay::{self, Outer};

use crate::access::XdpFrame;
use crate::maps::{KernelTables, VTEP};

pub enum Filter {
    Pass,
}

#[inline(always)]
pub fn run(ctx: &XdpContext) -> Result<Filter, Refusal> {
    match underlay::classify(&XdpFrame(ctx), &VTEP.load()).map_err(Refusal::unattributed)? {
        Outer::Foreign | Outer::Fallback(_) => Ok(Filter::Pass),
        Outer::Vxlan(vxlan) => underlay::filter(&vxlan, &KernelTables).map(|()| Filter::Pass),
    }
}
