//! The kernel's vxlan device as the slow path, both ways.

use core::mem::{size_of, zeroed};

use aya_ebpf::bindings::{BPF_F_DONT_FRAGMENT, BPF_F_ZERO_CSUM_TX, bpf_tunnel_key};
use aya_ebpf::helpers::{bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key};
use aya_ebpf::programs::TcContext;
use overlay_common::DropReason;
use overlay_common::decide::Refusal;
use overlay_common::decide::underlay::{self, Receivers, Vxlan};
use overlay_common::layout::TunnelValue;
use overlay_common::net::IpKey;
use overlay_common::packet::encap::{destination, source};

use crate::access::SkbFrame;
use crate::maps::KernelTables;
use crate::verdict;

const TTL: u8 = 64;
const KEY_LEN: u32 = size_of::<bpf_tunnel_key>() as u32;

/// Checks a frame that the vxlan device took out of its tunnel; who gets it.
#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<Receivers, Refusal> {
    // SAFETY: plain integers, for which zero is a value.
    let mut key: bpf_tunnel_key = unsafe { zeroed() };
    // SAFETY: the key is `KEY_LEN` bytes.
    if unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, &raw mut key, KEY_LEN, 0) } != 0 {
        return Err(Refusal::unattributed(DropReason::NoVni));
    }
    // SAFETY: without BPF_F_TUNINFO_IPV6 the helper has filled in the IPv4 variant, in host
    // byte order.
    let remote = unsafe { key.__bindgen_anon_1.remote_ipv4 };
    // SAFETY: as above.
    let local = unsafe { key.__bindgen_anon_3.local_ipv4 };
    let vxlan = Vxlan {
        source: IpKey::v4(remote.to_be_bytes()),
        destination: IpKey::v4(local.to_be_bytes()),
        vni: key.tunnel_id,
    };
    let frame = SkbFrame::new(ctx);
    let delivery = underlay::admit(&frame, 0, &vxlan, &KernelTables)?;
    verdict::count_received(delivery.stats, frame.segments(), frame.len());
    Ok(delivery.receivers)
}

/// Tells the vxlan device where to send a frame: same addresses as the fast path's headers.
#[inline(always)]
pub fn mark(ctx: &TcContext, tunnel: &TunnelValue, vni: u32) -> Result<(), i64> {
    // SAFETY: plain integers, for which zero is a value.
    let mut key: bpf_tunnel_key = unsafe { zeroed() };
    key.tunnel_id = vni;
    key.tunnel_ttl = TTL;
    key.__bindgen_anon_1.remote_ipv4 = u32::from_be_bytes(destination(&tunnel.header));
    key.__bindgen_anon_3.local_ipv4 = u32::from_be_bytes(source(&tunnel.header));
    let flags = u64::from(BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT);
    // SAFETY: the key is `KEY_LEN` bytes.
    match unsafe { bpf_skb_set_tunnel_key(ctx.skb.skb, &raw mut key, KEY_LEN, flags) } {
        0 => Ok(()),
        error => Err(error),
    }
}
