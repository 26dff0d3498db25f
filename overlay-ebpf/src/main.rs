//! The kernel side: one function per hook, each from outcome to action. What a frame deserves is
//! decided by `overlay_common::decide`; see ARCHITECTURE.md for the packet path.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The nested build of overlay-agent allows it; see `words`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    not(target_arch = "bpf"),
    expect(
        dead_code,
        reason = "built for the host only to be checked; the programs exist on the BPF target"
    )
)]

mod access;
mod answer;
mod decap;
mod early;
mod encap;
mod exception;
mod fallback;
mod filter;
mod flood;
mod guard;
mod icmp;
mod maps;
mod route;
mod service;
mod tunnel;
mod verdict;
mod words;

#[cfg(target_arch = "bpf")]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the attribute macros hand the context over by value"
)]
mod programs {
    use aya_ebpf::bindings::xdp_action::XDP_PASS;
    use aya_ebpf::macros::{classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use overlay_common::Direction;
    use overlay_common::decide::underlay::Receivers;

    use crate::decap::Decap;
    use crate::filter::Filter;
    use crate::verdict;
    use crate::{decap, encap, exception, fallback, filter, flood, guard, service};

    /// XDP on the underlay: junk is dropped before the kernel makes an skb of it.
    #[xdp]
    pub fn underlay_filter(ctx: XdpContext) -> u32 {
        match filter::run(&ctx) {
            Ok(Filter::Pass) => XDP_PASS,
            Err(refusal) => verdict::drop_early(&ctx, refusal),
        }
    }

    /// TC ingress on the underlay: decapsulation.
    #[classifier]
    pub fn from_underlay(ctx: TcContext) -> i32 {
        match decap::run(&ctx) {
            Ok(Decap::Foreign) => verdict::NEXT,
            Ok(Decap::Fallback(cause)) => verdict::leave_to_kernel(&ctx, cause),
            Ok(Decap::Deliver(receivers)) => deliver(&ctx, receivers),
            Err(refusal) => verdict::drop(&ctx, Direction::Rx, refusal),
        }
    }

    /// TC ingress on the host side of an endpoint's veth: encapsulation and local switching.
    #[classifier]
    pub fn from_endpoint(ctx: TcContext) -> i32 {
        encap::run(&ctx)
    }

    /// The rest of `from_endpoint`, entered by a tail call: what is not plain unicast.
    #[classifier]
    pub fn endpoint_exception(ctx: TcContext) -> i32 {
        exception::run(&ctx)
    }

    /// TC ingress on the collect-metadata vxlan device: what the fast path left to the kernel
    /// comes out here and passes the same checks.
    #[classifier]
    pub fn from_fallback(ctx: TcContext) -> i32 {
        match fallback::run(&ctx) {
            Ok(receivers) => deliver(&ctx, receivers),
            Err(refusal) => verdict::drop(&ctx, Direction::Rx, refusal),
        }
    }

    #[inline(always)]
    fn deliver(ctx: &TcContext, receivers: Receivers) -> i32 {
        match receivers {
            Receivers::One { ifindex } => verdict::redirect_peer(ifindex),
            Receivers::Everyone { vni } => {
                flood::deliver(ctx, vni);
                verdict::CONSUMED
            }
        }
    }

    /// TC egress on the underlay: VXLAN that a process of this host made goes nowhere.
    #[classifier]
    pub fn to_underlay(ctx: TcContext) -> i32 {
        match guard::run(&ctx) {
            Ok(()) => verdict::NEXT,
            Err(refusal) => verdict::drop(&ctx, Direction::Tx, refusal),
        }
    }

    /// TC ingress on the host side of the service's veth: what the agent answers its endpoints.
    #[classifier]
    pub fn from_service(ctx: TcContext) -> i32 {
        match service::leave(&ctx) {
            Ok(ifindex) => verdict::redirect_peer(ifindex),
            Err(refusal) => verdict::drop(&ctx, Direction::Tx, refusal),
        }
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// Helpers such as `bpf_redirect_peer` are for GPL-compatible programs.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("overlay-ebpf runs in the kernel: it is built and embedded by overlay-agent");
    std::process::exit(1);
}
