//! ARP for IPv4 over Ethernet (RFC 826).

use network_types::arp::ArpHdr;

use super::{ETH_LEN, ETHERTYPE_ARP, Ethernet, Packet};
use crate::net::MacAddr;

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Ethernet header and ARP body.
pub const FRAME_LEN: usize = ETH_LEN + 28;

/// What an ARP body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub operation: Operation,
    pub sender_mac: MacAddr,
    pub sender_ip: [u8; 4],
    pub target_ip: [u8; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

impl Arp {
    /// `None` when it is cut short or not a request or reply for IPv4 over Ethernet.
    #[inline(always)]
    pub fn read<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<Self> {
        let header = packet.header::<ArpHdr>(offset)?;
        if header.htype != [0, 1] || header.ptype != [8, 0] || (header.hlen, header.plen) != (6, 4)
        {
            return None;
        }
        let operation = match u16::from_be_bytes(header.oper) {
            REQUEST => Operation::Request,
            REPLY => Operation::Reply,
            _ => return None,
        };
        Some(Self {
            operation,
            sender_mac: MacAddr(header.sha),
            sender_ip: header.spa,
            target_ip: header.tpa,
        })
    }

    /// The frame that answers this request: `target_ip` is at `mac`.
    #[inline(always)]
    pub fn reply(&self, mac: MacAddr) -> [u8; FRAME_LEN] {
        let ethernet = Ethernet {
            destination: self.sender_mac,
            source: mac,
            ethertype: ETHERTYPE_ARP,
        };
        let mut frame = [0; FRAME_LEN];
        frame[..14].copy_from_slice(&ethernet.to_bytes());
        frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, REPLY as u8]);
        frame[22..28].copy_from_slice(&mac.0);
        frame[28..32].copy_from_slice(&self.target_ip);
        frame[32..38].copy_from_slice(&self.sender_mac.0);
        frame[38..42].copy_from_slice(&self.sender_ip);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

    #[test]
    fn reply_mirrors_the_request() {
        let request = Arp {
            operation: Operation::Request,
            sender_mac: A,
            sender_ip: [10, 0, 0, 1],
            target_ip: [10, 0, 0, 2],
        };
        let frame = request.reply(B);
        let ethernet = Ethernet::read(&frame[..], 0).unwrap();
        assert_eq!((ethernet.destination, ethernet.source), (A, B));
        let parsed = etherparse::ArpEthIpv4Packet::try_from(
            etherparse::ArpPacketSlice::from_slice(&frame[14..])
                .unwrap()
                .to_packet(),
        )
        .unwrap();
        assert_eq!(parsed.operation, etherparse::ArpOperation::REPLY);
        assert_eq!(parsed.sender_mac, B.0);
        assert_eq!(parsed.sender_ipv4, [10, 0, 0, 2]);
        assert_eq!(parsed.target_mac, A.0);
        assert_eq!(parsed.target_ipv4, [10, 0, 0, 1]);
    }

    #[test]
    fn refuses_what_is_not_ipv4_over_ethernet() {
        let good = Arp {
            operation: Operation::Request,
            sender_mac: A,
            sender_ip: [10, 0, 0, 1],
            target_ip: [10, 0, 0, 2],
        }
        .reply(B);
        assert!(Arp::read(&good[..], 14).is_some());
        for (at, value) in [(15, 6), (16, 9), (18, 8), (19, 16), (21, 3), (21, 0)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Arp::read(&bad[..], 14), None, "byte {at} = {value}");
        }
        assert_eq!(Arp::read(&good[..41], 14), None);
    }
}
