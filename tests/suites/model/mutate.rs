//! Damage.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

const SHORTEST: usize = 14;
/// Room that `BPF_PROG_TEST_RUN` has in one page, less the outer headers.
pub(super) const LONGEST: usize = 3300;

/// Bytes that `BPF_PROG_TEST_RUN` wants of a frame: all of the Ethernet header, and of the IP header
/// that it announces.
pub(super) fn shortest(frame: &[u8]) -> usize {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => SHORTEST + 20,
        Some([0x86, 0xdd]) => SHORTEST + 40,
        Some(_) | None => SHORTEST,
    }
}

/// Two of three frames stay as they are.
pub(super) fn sometimes(rng: &mut StdRng, frame: Vec<u8>) -> Vec<u8> {
    if rng.random_ratio(2, 3) {
        return frame;
    }
    let mut frame = frame;
    for _ in 0..rng.random_range(1..4) {
        once(rng, &mut frame);
    }
    frame
}

/// One change, anywhere but more often in the headers.
fn once(rng: &mut StdRng, frame: &mut Vec<u8>) {
    const INTERESTING: [u16; 12] = [
        0, 1, 20, 0x3fff, 0x7fff, 0x8000, 0xffff, 0x0800, 0x86dd, 0x8100, 0x0806, 4789,
    ];
    let end = if rng.random() {
        frame.len().min(64)
    } else {
        frame.len()
    };
    let at = rng.random_range(0..end);
    match rng.random_range(0..7) {
        0 => frame[at] ^= 1 << rng.random_range(0..8),
        1 => frame[at] = rng.random(),
        2 if at + 1 < frame.len() => {
            let value = *INTERESTING.choose(rng).unwrap();
            frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        // A length or a checksum that is off by a little.
        3 => {
            frame[at] = frame[at]
                .wrapping_add(rng.random_range(0..3))
                .wrapping_sub(1);
        }
        4 => frame.truncate(at.max(SHORTEST)),
        5 => {
            let more = rng.random_range(1..40);
            frame.resize((frame.len() + more).min(LONGEST), rng.random());
        }
        // A part of it over another part.
        _ => {
            let from = rng.random_range(0..frame.len());
            let len = rng
                .random_range(1..16)
                .min(frame.len() - from)
                .min(frame.len() - at);
            frame.copy_within(from..from + len, at);
        }
    }
}

/// Makes the checksum of an IPv4 header behind an Ethernet header right, if there is one.
pub(super) fn fix_ipv4_checksum(frame: &mut [u8]) {
    if frame.len() < 34 || frame[12..14] != [8, 0] {
        return;
    }
    let len = 4 * usize::from(frame[14] & 0x0f);
    if len >= 20 && frame.len() >= 14 + len {
        crate::datapath::frames::fix_ip_checksum(frame);
    }
}
