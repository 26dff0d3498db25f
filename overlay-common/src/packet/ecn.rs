//! Congestion marks across a tunnel (RFC 6040).

/// The ECN field: the two lower bits of the traffic class (RFC 3168, section 5).
pub const MASK: u8 = 0b11;
pub const NOT_ECT: u8 = 0b00;
pub const ECT_1: u8 = 0b01;
pub const ECT_0: u8 = 0b10;
pub const CE: u8 = 0b11;

/// What the outer mark does to the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The inner mark stays.
    Keep,
    /// The inner mark becomes this one.
    Mark(u8),
    /// Congestion that the inner transport could only learn from a loss.
    Drop,
}

/// Outer traffic class of an inner one: the DSCP of `dscp`, the inner mark (RFC 6040, section
/// 4.1, normal mode).
#[inline(always)]
pub const fn encapsulate(dscp: u8, inner: u8) -> u8 {
    (dscp & !MASK) | (inner & MASK)
}

/// Inner mark by the outer one; both are traffic classes (RFC 6040, section 4.2, figure 4).
#[inline(always)]
pub const fn decapsulate(outer: u8, inner: u8) -> Merge {
    let (outer, inner) = (outer & MASK, inner & MASK);
    // Of the outer marks only CE and ECT(1), which share this bit, say more than the inner one.
    if outer & ECT_1 == 0 || outer == inner {
        return Merge::Keep;
    }
    match (outer, inner) {
        (CE, NOT_ECT) => Merge::Drop,
        (CE, _) => Merge::Mark(CE),
        (_, ECT_0) => Merge::Mark(ECT_1),
        (_, _) => Merge::Keep,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::checksum::{fold, ipv4_sum, replace};

    /// Figure 4 of RFC 6040, row by row: inner, then the result under each outer mark in the
    /// order not-ECT, ECT(0), ECT(1), CE; `None` for a drop.
    const FIGURE_4: [(u8, [Option<u8>; 4]); 4] = [
        (0b00, [Some(0b00), Some(0b00), Some(0b00), None]),
        (0b10, [Some(0b10), Some(0b10), Some(0b01), Some(0b11)]),
        (0b01, [Some(0b01), Some(0b01), Some(0b01), Some(0b11)]),
        (0b11, [Some(0b11), Some(0b11), Some(0b11), Some(0b11)]),
    ];

    #[test]
    fn figure_4() {
        for (inner, row) in FIGURE_4 {
            for (outer, expected) in [0b00, 0b10, 0b01, 0b11].into_iter().zip(row) {
                let after = match decapsulate(outer | 0xb8, inner | 0x28) {
                    Merge::Keep => Some(inner),
                    Merge::Mark(mark) => {
                        assert_ne!(mark, inner, "{outer:02b} over {inner:02b}: no change");
                        Some(mark)
                    }
                    Merge::Drop => None,
                };
                assert_eq!(after, expected, "{outer:02b} over {inner:02b}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_inner_mark_goes_out(dscp: u8, inner: u8) {
            let outer = encapsulate(dscp, inner);
            prop_assert_eq!(outer & 3, inner & 3);
            prop_assert_eq!(outer >> 2, dscp >> 2);
        }

        /// The checksum after a change is that of the changed header.
        #[test]
        fn checksum_follows(mut header: [u8; 20], tos: u8) {
            header[0] = 0x45;
            header[10..12].fill(0);
            let checksum = !fold(ipv4_sum(&header));
            let word = |header: &[u8; 20]| u16::from_be_bytes([header[0], header[1]]);
            let before = word(&header);
            header[1] = tos;
            let updated = replace(checksum, before, word(&header));
            prop_assert_eq!(updated, !fold(ipv4_sum(&header)));
        }
    }
}
