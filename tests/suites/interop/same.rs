//! What Linux' vxlan device would deliver is delivered, unchanged; what it would drop is dropped.

use anyhow::{Context as _, Result, ensure};
use etherparse::{IpNumber, PacketBuilder};
use tests::lab::Family;

use super::compare::{Comparison, RECEIVER, RECEIVER6, SENDER, SENDER6, VNI};
use super::outer::{Checksum, Ends, Header};
use crate::support::{udp_frame, vxlan_payload};

/// For local experiments (IEEE 802).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

struct Case {
    name: &'static str,
    make: fn(&Ends) -> Result<Vec<Vec<u8>>>,
    delivered: usize,
    causes: &'static [(&'static str, u64)],
}

const COMMON: [Case; 21] = [
    Case {
        name: "nothing special",
        make: |ends| one(ends.vxlan(VNI, &inner()?)),
        delivered: 1,
        causes: &[],
    },
    Case {
        name: "two fragments",
        make: |ends| ends.fragments(2, VNI, &inner()?),
        delivered: 1,
        causes: &[("outer_fragment", 1)],
    },
    Case {
        name: "three fragments, the last first",
        make: |ends| {
            let mut fragments = ends.fragments(3, VNI, &inner()?)?;
            fragments.reverse();
            Ok(fragments)
        },
        delivered: 1,
        causes: &[("outer_fragment", 1)],
    },
    Case {
        name: "a fragment lost",
        make: |ends| Ok(ends.fragments(2, VNI, &inner()?)?[..1].to_vec()),
        delivered: 0,
        causes: &[("outer_fragment", 1)],
    },
    Case {
        name: "UDP checksum right",
        make: |ends| one(ends.with(&Header::PLAIN, Checksum::Good, VNI, &inner()?)),
        delivered: 1,
        causes: &[("outer_checksum", 1)],
    },
    Case {
        name: "UDP checksum wrong",
        make: |ends| one(ends.with(&Header::PLAIN, Checksum::Bad, VNI, &inner()?)),
        delivered: 0,
        causes: &[("outer_checksum", 1)],
    },
    Case {
        name: "bytes after the datagram",
        make: |ends| {
            let mut frame = ends.vxlan(VNI, &inner()?)?;
            frame.extend([0; 6]);
            Ok(vec![frame])
        },
        delivered: 1,
        causes: &[("outer_length", 1)],
    },
    Case {
        name: "UDP length too short",
        make: |ends| udp_length(ends, -4),
        delivered: 1,
        causes: &[("outer_length", 1)],
    },
    Case {
        name: "UDP length too long",
        make: |ends| udp_length(ends, 4),
        delivered: 0,
        causes: &[("outer_length", 1)],
    },
    Case {
        name: "time to live 1",
        make: |ends| {
            let header = Header {
                ttl: 1,
                ..Header::PLAIN
            };
            one(ends.with(&header, Checksum::Zero, VNI, &inner()?))
        },
        delivered: 1,
        causes: &[],
    },
    Case {
        name: "to another MAC",
        make: |ends| {
            let mut frame = ends.vxlan(VNI, &inner()?)?;
            frame[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
            Ok(vec![frame])
        },
        delivered: 0,
        causes: &[],
    },
    Case {
        name: "without a VNI",
        make: |ends| {
            let mut payload = vxlan_payload(VNI, &inner()?);
            payload[0] = 0;
            one(ends.packet(&Header::PLAIN, &ends.udp(Checksum::Zero, &payload)?))
        },
        delivered: 0,
        causes: &[],
    },
    Case {
        name: "an unknown VNI",
        make: |ends| one(ends.vxlan(VNI + 1, &inner()?)),
        delivered: 0,
        causes: &[],
    },
    Case {
        name: "inner SCTP",
        make: |ends| one(ends.vxlan(VNI, &inner_ip(IpNumber::SCTP, 64, &[7; 28])?)),
        delivered: 1,
        causes: &[],
    },
    Case {
        name: "an inner header alone",
        make: |ends| one(ends.vxlan(VNI, &inner_ip(IpNumber(253), 64, &[])?)),
        delivered: 1,
        causes: &[],
    },
    Case {
        name: "inner fragments",
        make: |ends| {
            let mut frames = Vec::new();
            for flags in [[0x20, 0x00], [0x00, 0x01]] {
                let mut frame = inner_ip(IpNumber::UDP, 64, &[3; 8])?;
                frame[20..22].copy_from_slice(&flags);
                frames.push(ends.vxlan(VNI, &frame)?);
            }
            Ok(frames)
        },
        delivered: 2,
        causes: &[],
    },
    Case {
        name: "inner time to live 0",
        make: |ends| one(ends.vxlan(VNI, &inner_ip(IpNumber::UDP, 0, &[3; 8])?)),
        delivered: 1,
        causes: &[],
    },
    Case {
        name: "inner UDP checksum wrong",
        make: |ends| {
            let mut frame = inner()?;
            frame[40] ^= 0x55;
            one(ends.vxlan(VNI, &frame))
        },
        delivered: 1,
        causes: &[],
    },
    Case {
        name: "neither IP nor ARP, from nothing to a full frame",
        make: |ends| {
            [0, 1, 46, 1400]
                .map(|length| {
                    let mut frame = [&RECEIVER.0.0[..], &SENDER.0.0, &EXPERIMENT].concat();
                    frame.resize(14 + length, 0xa5);
                    ends.vxlan(VNI, &frame)
                })
                .into_iter()
                .collect()
        },
        delivered: 4,
        causes: &[("inner_not_ip", 4)],
    },
    Case {
        name: "inner IPv6",
        make: |ends| {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(SENDER.0.0, RECEIVER.0.0)
                .ipv6(SENDER6.octets(), RECEIVER6.octets(), 64)
                .udp(5555, 7)
                .write(&mut frame, b"six")?;
            one(ends.vxlan(VNI, &frame))
        },
        delivered: 1,
        causes: &[],
    },
    Case {
        name: "a tunnel in the tunnel",
        make: |ends| {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(SENDER.0.0, RECEIVER.0.0)
                .ipv4(SENDER.1.octets(), RECEIVER.1.octets(), 64)
                .udp(5555, crate::support::VXLAN_PORT)
                .write(&mut frame, &vxlan_payload(VNI, &inner()?))?;
            one(ends.vxlan(VNI, &frame))
        },
        delivered: 1,
        causes: &[],
    },
];

const OF_V4: [Case; 2] = [
    Case {
        name: "options",
        make: |ends| {
            let header = Header {
                // Three times "no operation", end of list.
                options: &[1, 1, 1, 0],
                ..Header::PLAIN
            };
            one(ends.with(&header, Checksum::Zero, VNI, &inner()?))
        },
        delivered: 1,
        causes: &[("outer_options", 1)],
    },
    Case {
        name: "IP checksum wrong",
        make: |ends| {
            let mut frame = ends.vxlan(VNI, &inner()?)?;
            frame[24] ^= 0x55;
            Ok(vec![frame])
        },
        delivered: 0,
        causes: &[],
    },
];

const OF_V6: [Case; 4] = [
    Case {
        name: "hop-by-hop options",
        make: |ends| extended(ends, IpNumber::IPV6_HEADER_HOP_BY_HOP, &[1, 4, 0, 0, 0, 0]),
        delivered: 1,
        causes: &[("outer_options", 1)],
    },
    Case {
        name: "destination options",
        make: |ends| {
            extended(
                ends,
                IpNumber::IPV6_DESTINATION_OPTIONS,
                &[1, 4, 0, 0, 0, 0],
            )
        },
        delivered: 1,
        causes: &[("outer_options", 1)],
    },
    Case {
        name: "an option that nobody knows, to be discarded with",
        make: |ends| {
            extended(
                ends,
                IpNumber::IPV6_DESTINATION_OPTIONS,
                &[0x5e, 4, 0, 0, 0, 0],
            )
        },
        delivered: 0,
        causes: &[("outer_options", 1)],
    },
    Case {
        name: "one fragment that is the whole",
        make: |ends| ends.fragments(1, VNI, &inner()?),
        delivered: 1,
        causes: &[("outer_fragment", 1)],
    },
];

#[test]
fn over_ipv6() -> Result<()> {
    let comparison = Comparison::new(Family::V6)?;
    check(&comparison, &COMMON)?;
    check(&comparison, &OF_V6)?;
    congestion_marks(&comparison)?;
    reserved_bits(&comparison)
}

#[test]
fn over_ipv4() -> Result<()> {
    let comparison = Comparison::new(Family::V4)?;
    check(&comparison, &COMMON)?;
    check(&comparison, &OF_V4)?;
    congestion_marks(&comparison)?;
    reserved_bits(&comparison)
}

fn check(comparison: &Comparison, cases: &[Case]) -> Result<()> {
    for case in cases {
        comparison
            .run(case.make)
            .and_then(|outcome| outcome.expect(case.delivered, case.causes))
            .with_context(|| case.name)?;
    }
    Ok(())
}

/// Each outer mark with each inner one (RFC 6040, section 4.2), in both inner families.
fn congestion_marks(comparison: &Comparison) -> Result<()> {
    const NOT_ECT: u8 = 0;
    const CE: u8 = 3;
    for outer in 0..=CE {
        for inner in 0..=CE {
            for family in [Family::V4, Family::V6] {
                let header = Header {
                    tos: outer,
                    ..Header::PLAIN
                };
                let make = |ends: &Ends| {
                    let frame = marked(family, inner)?;
                    one(ends.with(&header, Checksum::Zero, VNI, &frame))
                };
                let lost = outer == CE && inner == NOT_ECT;
                comparison
                    .run(make)
                    .and_then(|outcome| outcome.same(usize::from(!lost)))
                    .with_context(|| format!("outer ECN {outer}, inner {inner} of {family:?}"))?;
            }
        }
    }
    Ok(())
}

/// The one thing where we follow RFC 7348, section 5 ("ignored on receipt"), and Linux does not.
fn reserved_bits(comparison: &Comparison) -> Result<()> {
    let outcome = comparison.run(|ends| {
        let mut payload = vxlan_payload(VNI, &inner()?);
        payload[7] = 1;
        one(ends.packet(&Header::PLAIN, &ends.udp(Checksum::Zero, &payload)?))
    })?;
    ensure!(outcome.ours == [inner()?], "{outcome:?}");
    ensure!(outcome.linux.is_empty(), "{outcome:?}");
    ensure!(outcome.causes.is_empty(), "{outcome:?}");
    Ok(())
}

fn extended(ends: &Ends, kind: IpNumber, options: &'static [u8]) -> Result<Vec<Vec<u8>>> {
    let header = Header {
        options,
        extension: kind,
        ..Header::PLAIN
    };
    one(ends.with(&header, Checksum::Zero, VNI, &inner()?))
}

fn one(frame: Result<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
    Ok(vec![frame?])
}

/// A datagram whose checksum is right.
fn inner() -> Result<Vec<u8>> {
    udp_frame(SENDER, RECEIVER, 7)
}

fn inner_ip(protocol: IpNumber, ttl: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(SENDER.0.0, RECEIVER.0.0)
        .ipv4(SENDER.1.octets(), RECEIVER.1.octets(), ttl)
        .write(&mut frame, protocol, payload)?;
    Ok(frame)
}

fn marked(family: Family, ecn: u8) -> Result<Vec<u8>> {
    let mut frame = [&RECEIVER.0.0[..], &SENDER.0.0].concat();
    match family {
        Family::V4 => {
            frame.extend([0x08, 0x00]);
            let (from, to) = (SENDER.1.octets(), RECEIVER.1.octets());
            let mut ip = etherparse::Ipv4Header::new(8, 64, IpNumber(253), from, to)?;
            ip.ecn = ecn.try_into()?;
            ip.write(&mut frame)?;
        }
        Family::V6 => {
            frame.extend([0x86, 0xdd]);
            let ip = etherparse::Ipv6Header {
                traffic_class: ecn,
                payload_length: 8,
                next_header: IpNumber(253),
                hop_limit: 64,
                source: SENDER6.octets(),
                destination: RECEIVER6.octets(),
                ..Default::default()
            };
            ip.write(&mut frame)?;
        }
    }
    frame.extend([0xc3; 8]);
    Ok(frame)
}

/// A UDP length that differs from what the IP header says.
fn udp_length(ends: &Ends, difference: i16) -> Result<Vec<Vec<u8>>> {
    let mut datagram = ends.udp(Checksum::Zero, &vxlan_payload(VNI, &inner()?))?;
    let length = u16::from_be_bytes([datagram[4], datagram[5]]).wrapping_add_signed(difference);
    datagram[4..6].copy_from_slice(&length.to_be_bytes());
    one(ends.packet(&Header::PLAIN, &datagram))
}
