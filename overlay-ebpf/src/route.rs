//! What the gateway changes in a frame that it forwards.

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use aya_ebpf::programs::TcContext;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use overlay_common::DropReason;
use overlay_common::net::MacAddr;
use overlay_common::packet::ip::aged;
use overlay_common::packet::{ETH_LEN, ETHERTYPE_IPV4, Ethernet, Packet as _};

use crate::access::SkbFrame;

const TTL_V4: usize = ETH_LEN + 8;
const HOP_LIMIT: usize = ETH_LEN + 7;

/// The next hop's MAC as destination and one hop less to live. The source MAC stays the sender's:
/// the receiving host knows the sender by it.
#[inline(always)]
pub fn take_hop(
    ctx: &TcContext,
    frame: &SkbFrame<'_>,
    ethernet: Ethernet,
    mac: MacAddr,
) -> Result<Ethernet, DropReason> {
    let recompute = u64::from(BPF_F_RECOMPUTE_CSUM);
    let failed = |_| DropReason::EncapFailed;
    if ethernet.ethertype == ETHERTYPE_IPV4 {
        let ip = frame
            .header::<Ipv4Hdr>(ETH_LEN)
            .ok_or(DropReason::Truncated)?;
        ctx.store(TTL_V4, &aged(&ip), recompute).map_err(failed)?;
    } else {
        let ip = frame
            .header::<Ipv6Hdr>(ETH_LEN)
            .ok_or(DropReason::Truncated)?;
        let hop_limit = ip.hop_limit.wrapping_sub(1);
        ctx.store(HOP_LIMIT, &hop_limit, recompute)
            .map_err(failed)?;
    }
    ctx.store(0, &mac.0, 0).map_err(failed)?;
    Ok(Ethernet {
        destination: mac,
        ..ethernet
    })
}
