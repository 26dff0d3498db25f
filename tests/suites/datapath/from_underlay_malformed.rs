//! `from_underlay` and `underlay_filter` against every truncation and every length that lies, over
//! both families.

use overlay_common::Direction::Rx;
use overlay_common::maps::FROM_UNDERLAY;
use overlay_common::{DropReason, FallbackCause};

use super::case::{Case, NEXT, REDIRECT, SHOT, XDP_DROP, XDP_PASS, check_one};
use super::fixture::{A, B, Counters, Programs, dropped, fell_back, received};
use super::frames::{Over, Tunnelled, fix_ip_checksum, tcp, udp, udp6};

fn run(cases: impl IntoIterator<Item = Case>) {
    let programs = Programs::load();
    let failures: Vec<String> = cases
        .into_iter()
        .filter_map(|case| {
            check_one(&programs, &case, |programs, case| {
                programs.classify(FROM_UNDERLAY, &case.frame, case.gso_size)
            })
            .err()
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn truncated(what: &'static str, frame: Vec<u8>) -> Case {
    Case::new(what, frame, SHOT, dropped(0, 0, Rx, DropReason::Truncated))
}

fn fallback(what: &'static str, frame: Vec<u8>, cause: FallbackCause) -> Case {
    Case::new(what, frame, NEXT, fell_back(Rx, cause))
}

/// Where the outer IP header ends.
fn udp_at(over: Over) -> usize {
    over.len() - 16
}

/// A well-formed frame with another IP length and another UDP length.
fn with_lengths(over: Over, ip: u16, udp: u16) -> Vec<u8> {
    let mut frame = Tunnelled::default().over(over);
    let at = match over {
        Over::V4 => 16,
        Over::V6 => 18,
    };
    frame[at..at + 2].copy_from_slice(&ip.to_be_bytes());
    let at = udp_at(over) + 4;
    frame[at..at + 2].copy_from_slice(&udp.to_be_bytes());
    if over == Over::V4 {
        fix_ip_checksum(&mut frame);
    }
    frame
}

#[test]
fn outer_truncated_at_every_length() {
    for over in Over::BOTH {
        let frame = Tunnelled::default().over(over);
        // `BPF_PROG_TEST_RUN` takes nothing shorter than the IP header; what the decisions make of that
        // is tested on the host.
        let shortest = udp_at(over);
        run((shortest..frame.len()).map(|len| {
            let cut = frame[..len].to_vec();
            if len < udp_at(over) + 8 {
                // No port: nobody can say that it is VXLAN.
                return Case::new("before the port", cut, NEXT, Counters::new());
            }
            truncated("from the port on", cut)
        }));
    }
}

#[test]
fn early_filter_at_every_length() {
    let programs = Programs::load();
    for over in Over::BOTH {
        let frame = Tunnelled::default().over(over);
        for len in 14..=frame.len() {
            let cut = frame[..len].to_vec();
            let case = if len < udp_at(over) + 8 || len == frame.len() {
                Case::new("foreign or whole", cut, XDP_PASS, Counters::new())
            } else {
                let counters = dropped(0, 0, Rx, DropReason::Truncated);
                Case::new("from the port on", cut, XDP_DROP, counters)
            };
            check_one(&programs, &case, |programs, case| {
                programs.filter(&case.frame)
            })
            .unwrap_or_else(|e| panic!("{over:?}, {len} bytes: {e}"));
        }
    }
}

/// The outer lengths are right, the inner packet ends early.
#[test]
fn inner_truncated_at_every_length() {
    for over in Over::BOTH {
        for (inner, headers) in [(tcp(B, A, 20), 34), (udp6(B, A), 54)] {
            run((0..=inner.len()).map(|len| {
                let inner = inner[..len].to_vec();
                let frame = Tunnelled {
                    inner: inner.clone(),
                    ..Tunnelled::default()
                }
                .over(over);
                if len < 14 {
                    return truncated("no Ethernet header", frame);
                }
                if len < headers {
                    return fallback("no IP header", frame, FallbackCause::InnerNotIp);
                }
                // An IP length that lies is for the receiver to find, as behind any bridge.
                Case::new("delivered as it is", frame, REDIRECT, received(1, len)).leaving(inner)
            }));
        }
    }
}

#[test]
fn udp_length_lies() {
    for over in Over::BOTH {
        let whole = (Tunnelled::default().over(over).len() - udp_at(over)) as u16;
        let ip = match over {
            Over::V4 => whole + 20,
            Over::V6 => whole,
        };
        run([0, 7, 8, 16, whole - 1, whole + 1, u16::MAX].map(|len| {
            let frame = with_lengths(over, ip, len);
            fallback("UDP length", frame, FallbackCause::OuterLength)
        }));
    }
}

#[test]
fn ip_length_lies() {
    for over in Over::BOTH {
        let frame = Tunnelled::default().over(over);
        let udp = (frame.len() - udp_at(over)) as u16;
        // Bytes that the length counts besides UDP's.
        let header = match over {
            Over::V4 => 20,
            Over::V6 => 0,
        };
        let shortest = header + 8 + 8 + 14;
        run([1, shortest - 1, header + udp + 1, u16::MAX]
            .map(|len| truncated("too short or too long", with_lengths(over, len, udp))));
        run([0, shortest, header + udp - 1].map(|len| {
            let frame = with_lengths(over, len, udp);
            fallback("0 or less than there is", frame, FallbackCause::OuterLength)
        }));
    }
}

/// Single bytes between the addresses and the ports: fragments, options, extension headers.
#[test]
fn fragments_and_options() {
    let v4 = |at: usize, value: u8| {
        let mut frame = Tunnelled::default().build();
        frame[at] = value;
        fix_ip_checksum(&mut frame);
        frame
    };
    let none = Counters::new;
    run([
        fallback("v4 first", v4(20, 0x20), FallbackCause::OuterFragment),
        Case::new("v4 middle", v4(20, 0x21), NEXT, none()),
        Case::new("v4 last", v4(21, 0x10), NEXT, none()),
        fallback(
            "v6 first",
            extended(44, &[[17, 0, 0, 1, 0, 0, 0, 9]]),
            FallbackCause::OuterFragment,
        ),
        fallback(
            "v6 whole datagram in one fragment (RFC 6946)",
            extended(44, &[[17, 0, 0, 0, 0, 0, 0, 9]]),
            FallbackCause::OuterFragment,
        ),
        Case::new(
            "v6 middle",
            extended(44, &[[17, 0, 1, 1, 0, 0, 0, 9]]),
            NEXT,
            none(),
        ),
        Case::new(
            "v6 last",
            extended(44, &[[17, 0, 1, 0, 0, 0, 0, 9]]),
            NEXT,
            none(),
        ),
        fallback(
            "hop by hop",
            extended(0, &[[17, 0, 1, 4, 0, 0, 0, 0]]),
            FallbackCause::OuterOptions,
        ),
        fallback(
            "destination options",
            extended(60, &[[17, 0, 1, 4, 0, 0, 0, 0]]),
            FallbackCause::OuterOptions,
        ),
        fallback(
            "routing",
            extended(43, &[[17, 0, 0, 0, 0, 0, 0, 0]]),
            FallbackCause::OuterOptions,
        ),
        fallback(
            "three in a row, then a first fragment",
            extended(
                0,
                &[
                    [60, 0, 1, 4, 0, 0, 0, 0],
                    [43, 0, 1, 4, 0, 0, 0, 0],
                    [44, 0, 0, 0, 0, 0, 0, 0],
                    [17, 0, 0, 1, 0, 0, 0, 9],
                ],
            ),
            FallbackCause::OuterFragment,
        ),
        Case::new(
            "an extension that is none",
            extended(59, &[[17, 0, 0, 0, 0, 0, 0, 0]]),
            NEXT,
            none(),
        ),
        Case::new(
            "an extension that says it is longer than the frame",
            extended(0, &[[17, 255, 1, 4, 0, 0, 0, 0]]),
            NEXT,
            none(),
        ),
    ]);
}

/// Extension headers of 8 bytes in front of UDP; `first` is the type of the first.
fn extended(first: u8, headers: &[[u8; 8]]) -> Vec<u8> {
    let mut frame = Tunnelled {
        inner: udp(B, A, 100),
        ..Tunnelled::default()
    }
    .over(Over::V6);
    frame[20] = first;
    frame.splice(54..54, headers.concat());
    let payload = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&payload.to_be_bytes());
    frame
}
