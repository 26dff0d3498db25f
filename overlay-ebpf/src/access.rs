//! The only pointer arithmetic: bounds-checked access to packet memory.

use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::{TcContext, XdpContext};
use overlay_common::decide::tunnel::Offload;
use overlay_common::layout::{Handover, TUNNEL_HEADER_MAX};
use overlay_common::packet::encap::Room;
use overlay_common::packet::ip::HEADERS_MAX;
use overlay_common::packet::{Header, Packet, VLAN_TAG_LEN};

use crate::words;

/// A frame at an XDP hook.
pub struct XdpFrame<'a>(pub &'a XdpContext);

impl Packet for XdpFrame<'_> {
    #[inline(always)]
    fn frame_len(&self) -> usize {
        // Not `data_end - data`: the compiler would take a comparison with that for the bounds
        // check of a later read, and the verifier would not. Fragments count, too.
        // SAFETY: the context pointer is valid while the program runs.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as usize }
    }

    #[inline(always)]
    fn header<T: Header>(&self, offset: usize) -> Option<T> {
        read(self.0.data(), self.0.data_end(), offset)
    }
}

impl XdpFrame<'_> {
    /// Writes into the frame; `false` when that ends before.
    #[inline(always)]
    pub fn store<T: Header>(&self, offset: usize, value: T) -> bool {
        write(self.0.data(), self.0.data_end(), offset, value)
    }

    /// Writes the metadata, for which there has to be room.
    #[inline(always)]
    pub fn hand_over(&self, handover: Handover) -> bool {
        write(self.0.metadata(), self.0.metadata_end(), 0, handover)
    }
}

/// The metadata that XDP has left in front of a frame, whoever wrote it. To be read first: the kernel
/// forgets it when it gives the frame other memory.
#[inline(always)]
pub fn metadata(ctx: &TcContext) -> Option<Handover> {
    // SAFETY: the context pointer is valid while the program runs.
    let start = unsafe { (*ctx.skb.skb).data_meta } as usize;
    read(start, ctx.data(), 0)
}

/// A frame at a TC hook whose headers are in the skb's linear part.
pub struct SkbFrame<'a>(&'a TcContext);

impl<'a> SkbFrame<'a> {
    /// Pulls all that any decision looks at into the linear part, where a driver or a socket has left
    /// it in fragments.
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        Self::reaching(ctx, |_| HEADERS_MAX)
    }

    /// As [`Self::new`], but not where the linear part holds as many bytes as `reach` says. What TCP sends
    /// is a clone with its payload in fragments, and to pull a byte of that the kernel copies the head.
    #[inline(always)]
    pub fn reaching(ctx: &'a TcContext, reach: impl FnOnce(&Self) -> usize) -> Self {
        let frame = Self(ctx);
        let all = ctx.len().min(HEADERS_MAX as u32);
        if !frame.is_linear(all as usize) && !frame.is_linear(reach(&frame).min(all as usize)) {
            // Without memory the frame is decided by as much as there is.
            let _ = ctx.skb.pull_data(all);
        }
        frame
    }

    /// A frame whose headers have been pulled before.
    #[inline(always)]
    pub const fn as_it_is(ctx: &'a TcContext) -> Self {
        Self(ctx)
    }

    #[inline(always)]
    fn is_linear(&self, len: usize) -> bool {
        self.0.data() + len <= self.0.data_end()
    }

    /// The first `N` bytes to be written; `None` when the frame ends before.
    #[inline(always)]
    pub fn front<const N: usize>(&self) -> Option<Front<N>> {
        self.is_linear(N).then(|| Front(self.0.data()))
    }

    /// Length of the frame in bytes.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.0.len()
    }

    /// Payload of one segment of a super-packet, 0 for a plain frame.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        // SAFETY: the context pointer is valid while the program runs.
        unsafe { (*self.0.skb.skb).gso_size }
    }

    /// Whether there is a VLAN tag, which the kernel keeps beside the frame.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0.skb.skb).vlan_present != 0 }
    }

    /// Whether the tag names no VLAN, but a priority (IEEE 802.1Q, clause 9.6).
    #[inline(always)]
    pub fn has_priority_only(&self) -> bool {
        const VLAN: u32 = 0x0fff;
        // SAFETY: as above.
        unsafe { (*self.0.skb.skb).vlan_tci & VLAN == 0 }
    }

    /// The VLAN tag beside the frame, as the wire has it.
    #[inline(always)]
    pub fn tag(&self) -> Option<[u8; VLAN_TAG_LEN]> {
        // SAFETY: as above. The protocol is in wire order already.
        let (protocol, number) = unsafe {
            let skb = self.0.skb.skb;
            ((*skb).vlan_proto as u16, (*skb).vlan_tci as u16)
        };
        let ([a, b], [c, d]) = (protocol.to_ne_bytes(), number.to_be_bytes());
        self.is_tagged().then_some([a, b, c, d])
    }

    /// What the kernel keeps beside the frame.
    #[inline(always)]
    pub fn offload(&self) -> Offload {
        Offload {
            gso_size: self.gso_size(),
            tagged: self.is_tagged(),
        }
    }

    /// Frames on the wire: segments of a super-packet.
    #[inline(always)]
    pub fn segments(&self) -> u64 {
        // SAFETY: as above.
        let segments = unsafe { (*self.0.skb.skb).gso_segs };
        u64::from(segments.max(1))
    }
}

impl Packet for SkbFrame<'_> {
    #[inline(always)]
    fn frame_len(&self) -> usize {
        self.0.len() as usize
    }

    #[inline(always)]
    fn header<T: Header>(&self, offset: usize) -> Option<T> {
        read(self.0.data(), self.0.data_end(), offset)
    }
}

#[inline(always)]
fn read<T: Header>(data: usize, end: usize, offset: usize) -> Option<T> {
    let start = data + offset;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the bytes are inside the packet.
    Some(unsafe { words::load(start as *const u8) })
}

#[inline(always)]
fn write<T: Header>(data: usize, end: usize, offset: usize, value: T) -> bool {
    let start = data + offset;
    if start + size_of::<T>() > end {
        return false;
    }
    // SAFETY: the bytes are inside the packet or its metadata, which the program may write.
    unsafe { words::store(start as *mut u8, value) };
    true
}

/// The first `N` bytes of a frame, to be written before anything else changes it: the verifier sees to that.
pub struct Front<const N: usize>(usize);

impl<const N: usize> Room for Front<N> {
    #[inline(always)]
    fn copy<const LEN: usize>(&mut self, template: &[u8; TUNNEL_HEADER_MAX]) {
        const { assert!(LEN <= N && LEN <= TUNNEL_HEADER_MAX) };
        // SAFETY: the bytes are inside the packet; templates are in a map.
        unsafe { words::copy::<LEN>(template.as_ptr(), self.0 as *mut u8) };
    }

    #[inline(always)]
    fn put<const AT: usize, const LEN: usize>(&mut self, bytes: [u8; LEN]) {
        const { assert!(AT + LEN <= N) };
        // SAFETY: as above.
        unsafe { words::store((self.0 + AT) as *mut u8, bytes) };
    }
}
