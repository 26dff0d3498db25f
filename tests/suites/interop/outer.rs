//! Outer headers, made by hand.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, UdpHeader};
use overlay_common::net::MacAddr;

/// Who sends to whom on the underlay.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) source_mac: MacAddr,
    pub(super) destination_mac: MacAddr,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
}

/// The outer UDP checksum.
#[derive(Clone, Copy)]
pub(super) enum Checksum {
    Zero,
    Good,
    Bad,
}

/// What an IP header says beyond its addresses.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) tos: u8,
    pub(super) ttl: u8,
    /// Of IPv4 in its header; of IPv6 in an extension header of this kind.
    pub(super) options: &'static [u8],
    pub(super) extension: IpNumber,
    /// First byte, in units of 8, and whether more follow.
    pub(super) fragment: Option<(u16, bool)>,
}

impl Header {
    pub(super) const PLAIN: Self = Self {
        tos: 0,
        ttl: 64,
        options: &[],
        extension: IpNumber::IPV6_HEADER_HOP_BY_HOP,
        fragment: None,
    };
}

impl Ends {
    /// VXLAN without anything special.
    pub(super) fn vxlan(&self, vni: u32, inner: &[u8]) -> Result<Vec<u8>> {
        self.with(&Header::PLAIN, Checksum::Zero, vni, inner)
    }

    pub(super) fn with(
        &self,
        header: &Header,
        checksum: Checksum,
        vni: u32,
        inner: &[u8],
    ) -> Result<Vec<u8>> {
        let payload = crate::support::vxlan_payload(vni, inner);
        self.packet(header, &self.udp(checksum, &payload)?)
    }

    /// The same in `pieces` fragments of about the same length.
    pub(super) fn fragments(&self, pieces: usize, vni: u32, inner: &[u8]) -> Result<Vec<Vec<u8>>> {
        let payload = crate::support::vxlan_payload(vni, inner);
        let datagram = self.udp(Checksum::Zero, &payload)?;
        let length = datagram.len().div_ceil(pieces).next_multiple_of(8);
        let chunks = datagram.chunks(length).enumerate();
        chunks
            .map(|(n, chunk)| {
                let offset = u16::try_from(n * length / 8)?;
                let header = Header {
                    fragment: Some((offset, (n + 1) * length < datagram.len())),
                    ..Header::PLAIN
                };
                self.packet(&header, chunk)
            })
            .collect()
    }

    /// A datagram to the VXLAN port.
    pub(super) fn udp(&self, checksum: Checksum, payload: &[u8]) -> Result<Vec<u8>> {
        let mut header = UdpHeader {
            source_port: 50_000,
            destination_port: crate::support::VXLAN_PORT,
            length: u16::try_from(UdpHeader::LEN + payload.len())?,
            checksum: 0,
        };
        let right = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), payload)?
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), payload)?
            }
            _ => bail!("addresses of two families"),
        };
        header.checksum = match checksum {
            Checksum::Zero => 0,
            Checksum::Good => right,
            // Neither right nor absent.
            Checksum::Bad if right == 1 => 2,
            Checksum::Bad => 1,
        };
        Ok([&header.to_bytes(), payload].concat())
    }

    /// Ethernet and IP in front of (a part of) a UDP datagram.
    pub(super) fn packet(&self, header: &Header, datagram: &[u8]) -> Result<Vec<u8>> {
        let mut frame = [self.destination_mac.0, self.source_mac.0].concat();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                let mut ip = Ipv4Header::new(
                    u16::try_from(datagram.len())?,
                    header.ttl,
                    IpNumber::UDP,
                    source.octets(),
                    destination.octets(),
                )?;
                ip.dscp = (header.tos >> 2).try_into()?;
                ip.ecn = (header.tos & 3).try_into()?;
                ip.identification = rand::random();
                ip.options = header.options.try_into()?;
                ip.set_payload_len(datagram.len())?;
                if let Some((offset, more)) = header.fragment {
                    ip.identification = 0x1234;
                    ip.dont_fragment = false;
                    ip.more_fragments = more;
                    ip.fragment_offset = IpFragOffset::try_new(offset)?;
                }
                ip.write(&mut frame).context("write an IPv4 header")?;
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd]);
                let mut extension = Vec::new();
                let mut next_header = IpNumber::UDP;
                if !header.options.is_empty() {
                    // Of 8 bytes: the next header, a length of 0, the options.
                    extension.extend([IpNumber::UDP.0, 0]);
                    extension.extend(header.options);
                    next_header = header.extension;
                }
                if let Some((offset, more)) = header.fragment {
                    // RFC 8200, section 4.5.
                    extension.extend([IpNumber::UDP.0, 0]);
                    extension.extend((offset << 3 | u16::from(more)).to_be_bytes());
                    extension.extend([0, 0, 0x12, 0x34]);
                    next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
                }
                let ip = Ipv6Header {
                    traffic_class: header.tos,
                    payload_length: u16::try_from(extension.len() + datagram.len())?,
                    next_header,
                    hop_limit: header.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                ip.write(&mut frame).context("write an IPv6 header")?;
                frame.extend(extension);
            }
            _ => bail!("addresses of two families"),
        }
        frame.extend(datagram);
        Ok(frame)
    }
}
