//! The kernel's vxlan device as the slow path, both ways.

use core::mem::{size_of, zeroed};

use aya_ebpf::bindings::{
    BPF_F_DONT_FRAGMENT, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, bpf_tunnel_key,
};
use aya_ebpf::helpers::{bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key};
use aya_ebpf::programs::TcContext;
use overlay_common::DropReason;
use overlay_common::decide::Refusal;
use overlay_common::decide::underlay::{self, Receivers, Vxlan};
use overlay_common::layout::{TunnelValue, tunnel_flags};
use overlay_common::net::IpKey;
use overlay_common::packet::ecn;

use crate::access::SkbFrame;
use crate::maps::{self, KernelTables};
use crate::verdict;

const KEY_LEN: u32 = size_of::<bpf_tunnel_key>() as u32;

/// Checks a frame that the vxlan device took out of its tunnel; who gets it.
#[inline(always)]
pub fn run(ctx: &TcContext) -> Result<Receivers, Refusal> {
    let Some(Tunnel {
        source,
        destination,
        vni,
    }) = tunnel(ctx)
    else {
        return Err(Refusal::unattributed(DropReason::NoVni));
    };
    let Some(vtep) = maps::vtep() else {
        return Err(Refusal::unattributed(DropReason::UnknownPeer));
    };
    // The socket takes what comes by any device to any address of this host.
    // SAFETY: the context pointer is valid while the program runs.
    if unsafe { (*ctx.skb.skb).mark } != vtep.mark {
        return Err(Refusal::unattributed(DropReason::OtherDevice));
    }
    let vxlan = Vxlan {
        source,
        destination,
        vni,
        outer_len: 0,
        traffic_class: 0,
        has_checksum: false,
    };
    let frame = SkbFrame::new(ctx);
    let delivery = underlay::admit(&frame, 0, &vxlan, vtep, &KernelTables)?;
    if frame.is_tagged() {
        underlay::tagged(vni, delivery.peer, &KernelTables)?;
    }
    verdict::count_received(delivery.stats, frame.segments(), frame.len());
    Ok(delivery.receivers)
}

/// The tunnel that the vxlan device took a frame out of.
struct Tunnel {
    source: IpKey,
    destination: IpKey,
    vni: u32,
}

#[inline(always)]
fn tunnel(ctx: &TcContext) -> Option<Tunnel> {
    // SAFETY: plain integers, for which zero is a value.
    let mut key: bpf_tunnel_key = unsafe { zeroed() };
    // SAFETY: the key is `KEY_LEN` bytes.
    if unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, &raw mut key, KEY_LEN, 0) } == 0 {
        // SAFETY: the helper has filled in the IPv4 variant, in host byte order.
        let (remote, local) = unsafe {
            (
                key.__bindgen_anon_1.remote_ipv4,
                key.__bindgen_anon_3.local_ipv4,
            )
        };
        return Some(Tunnel {
            source: IpKey::v4(remote.to_be_bytes()),
            destination: IpKey::v4(local.to_be_bytes()),
            vni: key.tunnel_id,
        });
    }
    let flags = u64::from(BPF_F_TUNINFO_IPV6);
    // SAFETY: as above. Without the flag the helper refuses an IPv6 tunnel.
    if unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, &raw mut key, KEY_LEN, flags) } == 0 {
        // SAFETY: the helper has filled in the IPv6 variant, in wire order.
        let (remote, local) = unsafe {
            (
                key.__bindgen_anon_1.remote_ipv6,
                key.__bindgen_anon_3.local_ipv6,
            )
        };
        return Some(Tunnel {
            source: IpKey::v6(from_words(remote)),
            destination: IpKey::v6(from_words(local)),
            vni: key.tunnel_id,
        });
    }
    None
}

/// Tells the vxlan device where to send a frame: same headers as the fast path's, but for the
/// ECN bits, which the device sets by the frame itself.
#[inline(never)]
pub fn mark(ctx: &TcContext, tunnel: &TunnelValue, vni: u32, traffic_class: u8) -> Result<(), i64> {
    // SAFETY: plain integers, for which zero is a value.
    let mut key: bpf_tunnel_key = unsafe { zeroed() };
    key.tunnel_id = vni;
    key.tunnel_ttl = tunnel.ttl();
    key.tunnel_tos = traffic_class & !ecn::MASK;
    let mut flags = u64::from(BPF_F_DONT_FRAGMENT);
    if tunnel.is_ipv6() {
        flags |= u64::from(BPF_F_TUNINFO_IPV6);
        key.__bindgen_anon_1.remote_ipv6 = to_words(tunnel.destination_v6());
        key.__bindgen_anon_3.local_ipv6 = to_words(tunnel.source_v6());
    } else {
        key.__bindgen_anon_1.remote_ipv4 = u32::from_be_bytes(tunnel.destination_v4());
        key.__bindgen_anon_3.local_ipv4 = u32::from_be_bytes(tunnel.source_v4());
    }
    if tunnel.flags & tunnel_flags::UDP_CHECKSUM == 0 {
        flags |= u64::from(BPF_F_ZERO_CSUM_TX);
    }
    // SAFETY: the key is `KEY_LEN` bytes.
    match unsafe { bpf_skb_set_tunnel_key(ctx.skb.skb, &raw mut key, KEY_LEN, flags) } {
        0 => Ok(()),
        error => Err(error),
    }
}

/// An IPv6 address as the tunnel key holds it: the bytes in wire order, seen as words.
#[inline(always)]
const fn to_words(ip: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = ip;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

/// The reverse of [`to_words`].
#[inline(always)]
const fn from_words(words: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = words[0].to_ne_bytes();
    let [e, f, g, h] = words[1].to_ne_bytes();
    let [i, j, k, l] = words[2].to_ne_bytes();
    let [m, n, o, p] = words[3].to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}
