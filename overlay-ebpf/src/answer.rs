//! Questions of an endpoint, answered in place of the frame that asked.

use aya_ebpf::helpers::bpf_skb_change_tail;
use aya_ebpf::programs::TcContext;
use overlay_common::decide::endpoint::Answer;
use overlay_common::net::MacAddr;
use overlay_common::packet::icmp::{echo_v4, echo_v6};
use overlay_common::packet::nd::{self, Neighbor};
use overlay_common::packet::{ETH_LEN, ETHERTYPE_IPV4, Ethernet, IPV6_LEN};

use crate::access::SkbFrame;
use crate::maps;

/// The kernel had no memory for the answer, or refuses to let the frame be changed.
pub struct Unanswered;

#[inline(always)]
pub fn write(ctx: &TcContext, ethernet: Ethernet, answer: &Answer) -> Result<(), Unanswered> {
    match answer {
        Answer::Arp { arp, mac } => ctx.store(0, &arp.reply(*mac), 0).map_err(|_| Unanswered),
        Answer::Neighbor { mac, router } => advertise(ctx, mac, *router),
        Answer::Echo if ethernet.ethertype == ETHERTYPE_IPV4 => echo_back_v4(ctx),
        Answer::Echo => echo_back_v6(ctx),
    }
}

#[inline(never)]
fn advertise(ctx: &TcContext, mac: &MacAddr, router: bool) -> Result<(), Unanswered> {
    let frame = SkbFrame::new(ctx);
    let ethernet = Ethernet::read(&frame, 0).ok_or(Unanswered)?;
    let solicitation = Neighbor::read(&frame, ETH_LEN + IPV6_LEN).ok_or(Unanswered)?;
    let answer = maps::scratch().ok_or(Unanswered)?;
    solicitation.advertisement(ethernet.source, *mac, router, answer);
    resize(ctx, nd::FRAME_LEN as u32)?;
    ctx.store(0, answer, 0).map_err(|_| Unanswered)
}

#[inline(never)]
fn echo_back_v4(ctx: &TcContext) -> Result<(), Unanswered> {
    let echo = echo_v4(&SkbFrame::new(ctx)).ok_or(Unanswered)?;
    ctx.store(0, &echo.head, 0).map_err(|_| Unanswered)?;
    ctx.store(echo.offset, &echo.message, 0)
        .map_err(|_| Unanswered)
}

#[inline(never)]
fn echo_back_v6(ctx: &TcContext) -> Result<(), Unanswered> {
    let echo = echo_v6(&SkbFrame::new(ctx)).ok_or(Unanswered)?;
    ctx.store(0, &echo.head, 0).map_err(|_| Unanswered)?;
    ctx.store(echo.offset, &echo.message, 0)
        .map_err(|_| Unanswered)
}

/// Cuts or lengthens the frame at its end. The kernel makes it linear and no aggregate any more.
#[inline(always)]
pub fn resize(ctx: &TcContext, len: u32) -> Result<(), Unanswered> {
    // SAFETY: the context pointer is valid while the program runs; the helper checks the length.
    match unsafe { bpf_skb_change_tail(ctx.skb.skb, len, 0) } {
        0 => Ok(()),
        _ => Err(Unanswered),
    }
}
