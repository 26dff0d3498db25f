//! To the agent at the service address, and back. Addresses are replaced by tokens and tokens by addresses:
//! `overlay_common::decide::service`.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::TcContext;
use overlay_common::DropReason;
use overlay_common::decide::{Refusal, service};
use overlay_common::net::MacAddr;
use overlay_common::packet::{ETH_LEN, ETHERTYPE_IPV4, Ethernet};

use crate::access::SkbFrame;
use crate::{maps, verdict};

const CHECK: usize = ETH_LEN + 10;
const SOURCE: usize = ETH_LEN + 12;
const DESTINATION: usize = ETH_LEN + 16;
const ADDRESS_LEN: u64 = 4;

/// What [`enter`] returns where the kernel has no memory for it.
pub const FAILED: u32 = u32::MAX;

/// Makes of an endpoint's frame one for the agent. Returns the device that it goes to the agent by, 0
/// where there is none. A plain number, for a stack frame of its own.
#[inline(never)]
pub fn enter(ctx: &TcContext) -> u32 {
    let Some(device) = maps::service() else {
        return 0;
    };
    let ifindex = verdict::ifindex(ctx);
    let (Some(endpoint), Some(token)) = (maps::endpoint(ifindex), service::token(ifindex)) else {
        return FAILED;
    };
    if replace(ctx, SOURCE, endpoint.ip4, token) {
        device
    } else {
        FAILED
    }
}

/// Makes of an answer of the agent a frame for the endpoint that has asked. Returns the endpoint's device.
#[inline(always)]
pub fn leave(ctx: &TcContext) -> Result<u32, Refusal> {
    let ifindex = service::receiver(&SkbFrame::new(ctx))?;
    let nobody = Refusal::unattributed(DropReason::ServiceAnswer);
    let endpoint = maps::endpoint(ifindex).ok_or(nobody)?;
    let token = service::token(ifindex).ok_or(nobody)?;
    let failed = Refusal::new(DropReason::AnswerFailed, endpoint.vni, 0);
    let ethernet = Ethernet {
        destination: endpoint.mac,
        source: MacAddr::of_gateway(endpoint.vni),
        ethertype: ETHERTYPE_IPV4,
    };
    if replace(ctx, DESTINATION, token, endpoint.ip4)
        && ctx.store(0, &ethernet.to_bytes(), 0).is_ok()
    {
        Ok(ifindex)
    } else {
        Err(failed)
    }
}

/// Puts another address in the IPv4 header, and right the checksums that cover it.
#[inline(always)]
fn replace(ctx: &TcContext, offset: usize, from: [u8; 4], to: [u8; 4]) -> bool {
    let word = |address: [u8; 4]| u64::from(u32::from_ne_bytes(address));
    if let Some(checksum) = service::checksum_at(&SkbFrame::new(ctx)) {
        let optional = if checksum.optional {
            u64::from(BPF_F_MARK_MANGLED_0)
        } else {
            0
        };
        let flags = u64::from(BPF_F_PSEUDO_HDR) | optional | ADDRESS_LEN;
        let replaced = ctx.l4_csum_replace(checksum.offset, word(from), word(to), flags);
        if replaced.is_err() {
            return false;
        }
    }
    ctx.l3_csum_replace(CHECK, word(from), word(to), ADDRESS_LEN)
        .is_ok()
        && ctx.store(offset, &to, 0).is_ok()
}
