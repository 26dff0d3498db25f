//! Questions of an endpoint, answered in place of the frame that asked.

use aya_ebpf::helpers::bpf_skb_change_tail;
use aya_ebpf::programs::TcContext;
use overlay_common::decide::endpoint::Answer;
use overlay_common::net::MacAddr;
use overlay_common::packet::icmp::{echo_v4, echo_v6};
use overlay_common::packet::nd::{self, Neighbor};
use overlay_common::packet::{ETHERTYPE_IPV4, Ethernet};

use crate::access::SkbFrame;

/// The kernel had no memory for the answer, or refuses to let the frame be changed.
pub struct Unanswered;

#[inline(always)]
pub fn write(ctx: &TcContext, ethernet: Ethernet, answer: &Answer) -> Result<(), Unanswered> {
    match answer {
        Answer::Arp { arp, mac } => ctx.store(0, &arp.reply(*mac), 0).map_err(|_| Unanswered),
        Answer::Neighbor {
            solicitation,
            mac,
            router,
        } => advertise(ctx, solicitation, ethernet.source, *mac, *router),
        Answer::Echo => echo(ctx, ethernet),
    }
}

#[inline(always)]
fn advertise(
    ctx: &TcContext,
    solicitation: &Neighbor,
    asker: MacAddr,
    mac: MacAddr,
    router: bool,
) -> Result<(), Unanswered> {
    resize(ctx, nd::FRAME_LEN as u32)?;
    ctx.store(0, &solicitation.advertisement(asker, mac, router), 0)
        .map_err(|_| Unanswered)
}

#[inline(always)]
fn echo(ctx: &TcContext, ethernet: Ethernet) -> Result<(), Unanswered> {
    let frame = SkbFrame::new(ctx);
    let (offset, message) = if ethernet.ethertype == ETHERTYPE_IPV4 {
        let echo = echo_v4(&frame).ok_or(Unanswered)?;
        ctx.store(0, &echo.head, 0).map_err(|_| Unanswered)?;
        (echo.offset, echo.message)
    } else {
        let echo = echo_v6(&frame).ok_or(Unanswered)?;
        ctx.store(0, &echo.head, 0).map_err(|_| Unanswered)?;
        (echo.offset, echo.message)
    };
    ctx.store(offset, &message, 0).map_err(|_| Unanswered)
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
