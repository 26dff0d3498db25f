//! Errors that go back to an endpoint in the gateway's name.

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::programs::TcContext;
use overlay_common::decide::Tables as _;
use overlay_common::layout::EndpointValue;
use overlay_common::packet::icmp::{
    ERROR_V4_LEN, ERROR_V6_LEN, Problem, error_v4, error_v6, quote_len,
};
use overlay_common::packet::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Packet as _};

use crate::access::SkbFrame;
use crate::answer::{Unanswered, resize};
use crate::maps::KernelTables;

/// Makes of a frame the error about it. `Err` where there is none to be sent; then the frame must
/// be dropped, and may have been changed.
#[inline(never)]
pub fn tell(
    ctx: &TcContext,
    ethernet: Ethernet,
    endpoint: &EndpointValue,
    problem: Problem,
) -> Result<(), Unanswered> {
    let frame = SkbFrame::new(ctx);
    let gateway_mac = KernelTables
        .vni(endpoint.vni)
        .map(|network| network.gateway_mac)
        .filter(|mac| !mac.is_zero());
    // Without a gateway, in the name of whom the packet was for.
    let mac = gateway_mac.unwrap_or(ethernet.destination);
    let quoted = ETH_LEN + quote_len(frame.frame_len());
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => {
            let error =
                error_v4(&frame, ethernet, mac, endpoint.gateway4, problem).ok_or(Unanswered)?;
            make_room(ctx, quoted, ERROR_V4_LEN)?;
            ctx.store(0, &error, 0).map_err(|_| Unanswered)
        }
        ETHERTYPE_IPV6 => {
            let error =
                error_v6(&frame, ethernet, mac, endpoint.gateway6, problem).ok_or(Unanswered)?;
            make_room(ctx, quoted, ERROR_V6_LEN)?;
            ctx.store(0, &error, 0).map_err(|_| Unanswered)
        }
        _ => Err(Unanswered),
    }
}

/// Cuts the frame to what is quoted and makes room for the headers in front of it.
#[inline(always)]
fn make_room(ctx: &TcContext, quoted: usize, headers: usize) -> Result<(), Unanswered> {
    resize(ctx, quoted as u32)?;
    ctx.skb
        .adjust_room((headers - ETH_LEN) as i32, BPF_ADJ_ROOM_MAC, 0)
        .map_err(|_| Unanswered)
}
