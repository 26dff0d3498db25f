//! Questions of an endpoint, answered in place of the frame that asked. Each answer is made in a stack
//! frame of its own: the stack is 512 bytes for all functions on the way together. `false` where the
//! kernel has no memory for the answer, or refuses to let the frame be changed.

use aya_ebpf::helpers::bpf_skb_change_tail;
use aya_ebpf::programs::TcContext;
use overlay_common::net::MacAddr;
use overlay_common::packet::arp::Arp;
use overlay_common::packet::icmp::{echo_v4, echo_v6};
use overlay_common::packet::nd::{self, Neighbor};
use overlay_common::packet::{ETH_LEN, ETHERTYPE_IPV4, Ethernet, IPV6_LEN};

use crate::access::SkbFrame;
use crate::maps;

/// Makes of an ARP request its answer.
#[inline(never)]
pub fn arp(ctx: &TcContext, mac: MacAddr) -> bool {
    let Some(arp) = Arp::read(&SkbFrame::new(ctx), ETH_LEN) else {
        return false;
    };
    ctx.store(0, &arp.reply(mac), 0).is_ok()
}

/// Makes of a neighbour solicitation its answer.
#[inline(never)]
pub fn neighbor(ctx: &TcContext, mac: MacAddr, router: bool) -> bool {
    let frame = SkbFrame::new(ctx);
    let Some(ethernet) = Ethernet::read(&frame, 0) else {
        return false;
    };
    let Some(solicitation) = Neighbor::read(&frame, ETH_LEN + IPV6_LEN, ethernet.source) else {
        return false;
    };
    let Some(answer) = maps::scratch() else {
        return false;
    };
    solicitation.advertisement(ethernet.source, mac, router, answer);
    resize(ctx, nd::FRAME_LEN as u32) && ctx.store(0, answer, 0).is_ok()
}

/// Makes of an echo request its answer.
#[inline(always)]
pub fn echo(ctx: &TcContext) -> bool {
    match Ethernet::read(&SkbFrame::new(ctx), 0) {
        Some(ethernet) if ethernet.ethertype == ETHERTYPE_IPV4 => echo_back_v4(ctx),
        Some(_) => echo_back_v6(ctx),
        None => false,
    }
}

#[inline(never)]
fn echo_back_v4(ctx: &TcContext) -> bool {
    let Some(echo) = echo_v4(&SkbFrame::new(ctx)) else {
        return false;
    };
    ctx.store(0, &echo.head, 0).is_ok() && ctx.store(echo.offset, &echo.message, 0).is_ok()
}

#[inline(never)]
fn echo_back_v6(ctx: &TcContext) -> bool {
    let Some(echo) = echo_v6(&SkbFrame::new(ctx)) else {
        return false;
    };
    ctx.store(0, &echo.head, 0).is_ok() && ctx.store(echo.offset, &echo.message, 0).is_ok()
}

/// Cuts or lengthens the frame at its end. The kernel makes it linear and no aggregate any more.
#[inline(always)]
pub fn resize(ctx: &TcContext, len: u32) -> bool {
    // SAFETY: the context pointer is valid while the program runs; the helper checks the length.
    unsafe { bpf_skb_change_tail(ctx.skb.skb, len, 0) == 0 }
}
