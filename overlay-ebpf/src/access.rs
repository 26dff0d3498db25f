//! The only pointer arithmetic: bounds-checked reads of packet memory.

use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::{TcContext, XdpContext};
use overlay_common::decide::tunnel::Offload;
use overlay_common::layout::Handover;
use overlay_common::packet::{Header, Packet, VLAN_TAG_LEN};

/// Outer IPv4 and inner headers with room for inner options, which every decision fits in.
const LINEAR: u32 = 192;

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
    /// Pulls the headers into the linear part if a driver left them in fragments.
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        let wanted = ctx.len().min(LINEAR);
        if ctx.data() + (wanted as usize) > ctx.data_end() {
            // Without memory the reads below find the frame truncated, and it is dropped.
            let _ = ctx.skb.pull_data(wanted);
        }
        Self(ctx)
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
    // SAFETY: the bytes are inside the packet, and `Header` makes any of them a value.
    Some(unsafe { (start as *const T).read_unaligned() })
}

#[inline(always)]
fn write<T: Header>(data: usize, end: usize, offset: usize, value: T) -> bool {
    let start = data + offset;
    if start + size_of::<T>() > end {
        return false;
    }
    // SAFETY: the bytes are inside the packet or its metadata, which the program may write.
    unsafe { (start as *mut T).write_unaligned(value) };
    true
}
