//! VXLAN that no receiver should have to do with.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;

const VXLAN_PORT: u16 = 4789;
/// The VNI is valid.
const VNI_FLAG: u8 = 0x08;
/// Of the checksum in a UDP datagram behind Ethernet and IPv4.
const UDP_CHECKSUM: usize = 14 + 20 + 6;

/// One end of a cable.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub mac: [u8; 6],
    pub ip: Ipv4Addr,
}

/// A datagram of 64 bytes for nobody, in VXLAN.
#[derive(Debug, Clone, Copy)]
pub struct Junk {
    pub from: End,
    pub to: End,
    pub vni: u32,
    /// Whether the header says that there is a VNI: without, it is not VXLAN.
    pub has_vni: bool,
}

impl Junk {
    /// As it is on the wire.
    pub fn frame(&self) -> Result<Vec<u8>> {
        let mut inner = Vec::new();
        PacketBuilder::ethernet2([2, 0xee, 0, 0, 0, 1], [2, 0xee, 0, 0, 0, 2])
            .ipv4([10, 99, 0, 201], [10, 99, 0, 202], 64)
            .udp(9, 9)
            .write(&mut inner, &[0; 64])
            .context("build an inner frame")?;
        let [_, a, b, c] = self.vni.to_be_bytes();
        let flags = if self.has_vni { VNI_FLAG } else { 0 };
        let tunnelled = [&[flags, 0, 0, 0, a, b, c, 0][..], &inner].concat();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.from.mac, self.to.mac)
            .ipv4(self.from.ip.octets(), self.to.ip.octets(), 64)
            .udp(50_000, VXLAN_PORT)
            .write(&mut frame, &tunnelled)
            .context("build an outer frame")?;
        // None, as VXLAN has it over IPv4.
        frame[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
        Ok(frame)
    }
}
