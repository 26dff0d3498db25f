//! What the gateway changes in a frame that it forwards.

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use aya_ebpf::programs::TcContext;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use overlay_common::net::MacAddr;
use overlay_common::packet::ip::aged;
use overlay_common::packet::{ETH_LEN, ETHERTYPE_IPV4, Ethernet, Packet as _};

use crate::access::SkbFrame;

const TTL_V4: usize = ETH_LEN + 8;
const HOP_LIMIT: usize = ETH_LEN + 7;

/// The next hop's MAC as destination and one hop less to live. The source MAC stays the sender's:
/// the receiving host knows the sender by it. `false` when the kernel has no memory for it.
#[inline(never)]
pub fn take_hop(ctx: &TcContext, mac: MacAddr) -> bool {
    let recompute = u64::from(BPF_F_RECOMPUTE_CSUM);
    let frame = SkbFrame::new(ctx);
    let is_ipv4 = Ethernet::read(&frame, 0).is_some_and(|e| e.ethertype == ETHERTYPE_IPV4);
    let aged = if is_ipv4 {
        frame
            .header::<Ipv4Hdr>(ETH_LEN)
            .is_some_and(|ip| ctx.store(TTL_V4, &aged(&ip), recompute).is_ok())
    } else {
        frame.header::<Ipv6Hdr>(ETH_LEN).is_some_and(|ip| {
            let hop_limit = ip.hop_limit.wrapping_sub(1);
            ctx.store(HOP_LIMIT, &hop_limit, recompute).is_ok()
        })
    };
    aged && ctx.store(0, &mac.0, 0).is_ok()
}
