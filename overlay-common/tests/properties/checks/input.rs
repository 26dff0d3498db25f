//! From a fuzzer's bytes to a frame and the circumstances it comes in.

use etherparse::checksum::Sum16BitWords;
use overlay_common::packet::Packet;
use overlay_common::packet::ip::HEADERS_MAX;

use super::templates::TEMPLATES;

/// Everything but the frame.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    pub floods: bool,
    pub vlan: bool,
    pub allowed: bool,
    pub forwards: bool,
    pub over_ipv6: bool,
    pub copy_dscp: bool,
    /// Anything fits the tunnel.
    pub jumbo: bool,
    /// There is a VLAN tag beside the frame.
    pub tagged: bool,
    /// Payload of a segment; 0 for a plain frame.
    pub gso_size: u32,
}

#[derive(Debug)]
pub struct Input {
    pub knobs: Knobs,
    /// Exactly as long as its buffer, so that a sanitizer sees a read behind its end.
    pub frame: Box<[u8]>,
}

impl Input {
    /// Four bytes of circumstances, then what the frame differs from a well-formed one in: zeroes
    /// leave it as it is, and its length cuts it.
    pub fn new(data: &[u8]) -> Self {
        let (head, changes) = data.split_at(data.len().min(4));
        let byte = |i: usize| head.get(i).copied().unwrap_or(0);
        let bit = |i: u8| byte(1) & 1 << i != 0;
        let knobs = Knobs {
            floods: bit(0),
            vlan: bit(1),
            allowed: bit(2),
            forwards: bit(3),
            over_ipv6: bit(4),
            copy_dscp: bit(5),
            jumbo: bit(6),
            tagged: bit(7),
            gso_size: u32::from(byte(2)) << 8,
        };
        let template = TEMPLATES.get(usize::from(byte(0)));
        let template = template.map_or(&[][..], Vec::as_slice);
        let mut frame: Box<[u8]> = changes.into();
        for (byte, original) in frame.iter_mut().zip(template) {
            *byte ^= original;
        }
        if byte(3) & 1 != 0 {
            repair(&mut frame);
        }
        Self { knobs, frame }
    }
}

/// Makes the checksum of an outer IPv4 header right: no fuzzer guesses it.
pub fn repair(frame: &mut [u8]) {
    if let Some(header) = frame.get_mut(14..34)
        && header[0] == 0x45
    {
        header[10..12].fill(0);
        let checksum = Sum16BitWords::new().add_slice(header).ones_complement();
        // As it is in memory.
        header[10..12].copy_from_slice(&checksum.to_ne_bytes());
    }
}

/// A frame of which the programs have the first bytes at hand only.
pub struct Head<'a> {
    frame: &'a [u8],
    len: usize,
}

impl<'a> Head<'a> {
    /// As many bytes as any decision looks at.
    pub fn new(frame: &'a [u8]) -> Self {
        Self::reaching(frame, HEADERS_MAX)
    }

    /// As many as a decision has said that it looks at.
    pub fn reaching(frame: &'a [u8], reach: usize) -> Self {
        let len = frame.len().min(HEADERS_MAX).min(reach);
        Self { frame, len }
    }
}

impl Packet for Head<'_> {
    fn frame_len(&self) -> usize {
        self.frame.len()
    }

    fn header<T: overlay_common::packet::Header>(&self, offset: usize) -> Option<T> {
        self.frame[..self.len].header(offset)
    }
}
