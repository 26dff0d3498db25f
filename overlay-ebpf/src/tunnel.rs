//! Into a tunnel: outer headers, or the metadata for the kernel to make them of.

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
};
use aya_ebpf::helpers::{bpf_get_hash_recalc, bpf_skb_change_head, bpf_skb_vlan_pop};
use aya_ebpf::programs::TcContext;
use overlay_common::decide::tunnel::{self, Path};
use overlay_common::layout::{TunnelValue, tunnel_flags};
use overlay_common::packet::encap::{ENCAP_V4_LEN, ENCAP_V6_LEN, Variable, write_v4, write_v6};
use overlay_common::packet::flow::source_port;
use overlay_common::packet::{
    ETH_LEN, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, OVERHEAD_V4, OVERHEAD_V6, Packet as _,
    VLAN_TAG_LEN,
};
use overlay_common::{DropReason, FallbackCause};

use crate::access::SkbFrame;
use crate::{fallback, maps};

/// How a frame goes to a peer.
#[derive(Clone, Copy)]
pub enum Tunnelled {
    /// Encapsulated, next hop known.
    Transmit { ifindex: u32 },
    /// Encapsulated, the kernel has to resolve the next hop.
    Resolve { ifindex: u32 },
    /// Marked for the fallback device.
    Fallback { ifindex: u32, cause: FallbackCause },
}

/// Bytes of an Ethernet header in front of a tag.
const MAC_ADDRESSES: usize = 12;
/// Answers of [`make_room_in_front`], larger than any tag.
const NO_TAG: u64 = 1 << 32;
const REFUSED: u64 = 1 << 33;

/// `ENCAP_L2` is the inner Ethernet header alone: with the VXLAN header counted in, UDP-tunnel
/// segmentation would look for the inner packet 8 bytes off.
const ROOM_FLAGS: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64
    | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64
    | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64
    | (ETH_LEN as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;

/// Outer headers, or the metadata for the fallback device to make them of.
///
/// In a frame of its own: the stack is 512 bytes for all functions together.
#[inline(never)]
pub fn enter(
    ctx: &TcContext,
    ethernet: &Ethernet,
    tunnel: &TunnelValue,
    vni: u32,
) -> Result<Tunnelled, DropReason> {
    let frame = &SkbFrame::new(ctx);
    let offload = frame.offload();
    let path = tunnel::path(frame, *ethernet, offload, tunnel)?;
    let traffic_class = tunnel::traffic_class(frame, *ethernet, tunnel);
    let port = source_port(flow_hash(ctx));
    let path = match path {
        Path::Fast if !make_room(ctx, tunnel) => {
            tunnel::instead(FallbackCause::RoomRefused, offload, tunnel)?
        }
        Path::Fast | Path::Prepend | Path::Fallback(_) => path,
    };
    let cause = match path {
        Path::Fast | Path::Prepend => {
            let tag = if path == Path::Prepend {
                make_room_in_front(ctx, tunnel)
            } else {
                NO_TAG
            };
            let written = tag != REFUSED
                && store(ctx, tunnel, ethernet, vni, port, traffic_class)
                && (tag == NO_TAG || store_tag(ctx, tunnel, tag as u32));
            return sent(tunnel, written);
        }
        Path::Fallback(cause) => cause,
    };
    let vtep = maps::vtep().ok_or(DropReason::FallbackFailed)?;
    fallback::mark(ctx, tunnel, vni, traffic_class).map_err(|_| DropReason::FallbackFailed)?;
    Ok(Tunnelled::Fallback {
        ifindex: vtep.fallback_ifindex,
        cause,
    })
}

/// Outer headers by the fast path; `None` where something else has to be done, and the frame is as it
/// was. A refusal says that no path takes it, and but for `EncapFailed` it is as it was, too.
#[inline(always)]
pub fn encapsulate(
    ctx: &TcContext,
    ethernet: &Ethernet,
    tunnel: &TunnelValue,
    vni: u32,
) -> Result<Option<Tunnelled>, DropReason> {
    let frame = &SkbFrame::as_it_is(ctx);
    if tunnel::path(frame, *ethernet, frame.offload(), tunnel)? != Path::Fast {
        return Ok(None);
    }
    let traffic_class = tunnel::traffic_class(frame, *ethernet, tunnel);
    let port = source_port(flow_hash(ctx));
    if !make_room(ctx, tunnel) {
        return Ok(None);
    }
    sent(
        tunnel,
        store(ctx, tunnel, ethernet, vni, port, traffic_class),
    )
    .map(Some)
}

/// What is left to do with a frame that has got its headers.
#[inline(always)]
fn sent(tunnel: &TunnelValue, written: bool) -> Result<Tunnelled, DropReason> {
    let ifindex = tunnel.ifindex;
    if !written {
        Err(DropReason::EncapFailed)
    } else if tunnel.flags & tunnel_flags::RESOLVED == 0 {
        Ok(Tunnelled::Resolve { ifindex })
    } else {
        Ok(Tunnelled::Transmit { ifindex })
    }
}

/// Makes room after the Ethernet header for the outer headers and the inner Ethernet header. `false`
/// when the kernel refuses, which it does before it changes anything: a frame that a tunnel inside
/// the container has marked as encapsulated, segmentation other than TCP's and UDP's.
#[inline(always)]
fn make_room(ctx: &TcContext, tunnel: &TunnelValue) -> bool {
    let (overhead, family) = if tunnel.is_ipv6() {
        (OVERHEAD_V6, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6)
    } else {
        (OVERHEAD_V4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4)
    };
    let flags = ROOM_FLAGS | u64::from(family);
    ctx.skb
        .adjust_room(overhead as i32, BPF_ADJ_ROOM_MAC, flags)
        .is_ok()
}

/// Makes room in front of any frame that is no super-packet. To the kernel it stays a frame of the
/// inner protocol, which nobody looks at before the wire. What is returned is the tag that the kernel
/// has kept beside the frame, for [`store_tag`], or [`NO_TAG`]; [`REFUSED`] by the kernel, and for a
/// frame with two tags.
#[inline(never)]
fn make_room_in_front(ctx: &TcContext, tunnel: &TunnelValue) -> u64 {
    let frame = SkbFrame::new(ctx);
    let (mut room, mut tag) = (overhead(tunnel), NO_TAG);
    if let Some([a, b, c, d]) = frame.tag() {
        let second = frame
            .header::<[u8; 2]>(MAC_ADDRESSES)
            .map(u16::from_be_bytes);
        if matches!(second, None | Some(ETHERTYPE_VLAN | ETHERTYPE_QINQ)) {
            return REFUSED;
        }
        // SAFETY: the context pointer is valid while the program runs.
        if unsafe { bpf_skb_vlan_pop(ctx.skb.skb) } != 0 {
            return REFUSED;
        }
        room += VLAN_TAG_LEN;
        tag = u64::from(u32::from_be_bytes([a, b, c, d]));
    }
    // SAFETY: as above.
    if unsafe { bpf_skb_change_head(ctx.skb.skb, room as u32, 0) } != 0 {
        return REFUSED;
    }
    tag
}

/// Writes a tag over the ethertype of the inner Ethernet header, and the room behind it. The frame's
/// own ethertype follows there already.
#[inline(never)]
fn store_tag(ctx: &TcContext, tunnel: &TunnelValue, tag: u32) -> bool {
    let at = overhead(tunnel) + MAC_ADDRESSES;
    ctx.store(at, &tag.to_be_bytes(), 0).is_ok()
}

/// Writes outer headers and inner Ethernet header into the room for them.
#[inline(always)]
fn store(
    ctx: &TcContext,
    tunnel: &TunnelValue,
    inner: &Ethernet,
    vni: u32,
    source_port: u16,
    traffic_class: u8,
) -> bool {
    let variable = Variable {
        inner: *inner,
        inner_len: ctx.len() as u16 - overhead(tunnel) as u16,
        vni,
        source_port,
        traffic_class,
    };
    let frame = SkbFrame::as_it_is(ctx);
    if tunnel.is_ipv6() {
        frame
            .front::<ENCAP_V6_LEN>()
            .map(|mut front| write_v6(&mut front, &tunnel.header, &variable))
            .is_some()
    } else {
        frame
            .front::<ENCAP_V4_LEN>()
            .map(|mut front| write_v4(&mut front, &tunnel.header, &variable))
            .is_some()
    }
}

#[inline(always)]
fn overhead(tunnel: &TunnelValue) -> usize {
    if tunnel.is_ipv6() {
        OVERHEAD_V6
    } else {
        OVERHEAD_V4
    }
}

/// The socket's hash where the kernel has set one, else of the inner flow.
#[inline(always)]
fn flow_hash(ctx: &TcContext) -> u32 {
    // SAFETY: the context pointer is valid while the program runs.
    let hash = unsafe { (*ctx.skb.skb).hash };
    if hash != 0 {
        return hash;
    }
    // SAFETY: as above.
    unsafe { bpf_get_hash_recalc(ctx.skb.skb) }
}
