//! The Internet checksum (RFC 1071).

/// Folds a sum of 16-bit words to 16 bits.
#[inline(always)]
pub const fn fold(mut sum: u32) -> u16 {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Sum of the ten words of an IPv4 header without options, not folded. With the checksum field
/// in place a correct header folds to 0xffff.
#[inline(always)]
pub fn ipv4_sum(header: &[u8; 20]) -> u32 {
    let mut sum = 0;
    let mut i = 0;
    while i < 20 {
        sum += u32::from(u16::from_be_bytes([header[i], header[i + 1]]));
        i += 2;
    }
    sum
}

/// Sum of 16-bit words, not folded: of at most 64 KiB, an odd last byte counts as a word's first.
#[inline(always)]
pub fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    let mut i = 0;
    while i < bytes.len() {
        let low = if i + 1 < bytes.len() { bytes[i + 1] } else { 0 };
        sum += u32::from(u16::from_be_bytes([bytes[i], low]));
        i += 2;
    }
    sum
}

/// The checksum of something in which one word has changed (RFC 1624, equation 3).
#[inline(always)]
pub const fn replace(check: u16, old: u16, new: u16) -> u16 {
    !fold(!check as u32 + !old as u32 + new as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example header of RFC 1071-style texts, checksum b861.
    const HEADER: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn correct_header_folds_to_ones() {
        assert_eq!(fold(ipv4_sum(&HEADER)), 0xffff);
        let mut wrong = HEADER;
        wrong[8] = 63;
        assert_ne!(fold(ipv4_sum(&wrong)), 0xffff);
    }

    proptest::proptest! {
        #[test]
        fn a_replaced_word_is_as_good_as_a_new_sum(at in 0usize..5, word: u16) {
            let mut header = HEADER;
            let old = u16::from_be_bytes([header[2 * at], header[2 * at + 1]]);
            header[2 * at..2 * at + 2].copy_from_slice(&word.to_be_bytes());
            let check = replace(0xb861, old, word);
            header[10..12].copy_from_slice(&check.to_be_bytes());
            proptest::prop_assert_eq!(fold(sum(&header)), 0xffff);
            proptest::prop_assert_eq!(sum(&header), ipv4_sum(&header));
        }
    }

    #[test]
    fn fold_carries_twice() {
        assert_eq!(fold(0x1_ffff), 1);
        assert_eq!(fold(0xffff_ffff), 0xffff);
    }
}
