//! The outer UDP source port: entropy for ECMP and RSS.

/// First port of the range (RFC 7348, section 5: 49152–65535).
const FIRST: u16 = 49152;
const MASK: u32 = 0x3fff;

/// Port of a flow from its hash: equal hashes give equal ports.
#[inline(always)]
pub const fn source_port(hash: u32) -> u16 {
    // The upper half decides too, so that hashes which differ only there spread.
    FIRST + ((hash ^ (hash >> 16)) & MASK) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn stays_in_the_range(hash: u32) {
            proptest::prop_assert!(source_port(hash) >= FIRST);
        }
    }

    #[test]
    fn both_halves_count() {
        assert_ne!(source_port(0), source_port(1));
        assert_ne!(source_port(0), source_port(1 << 16));
        assert_eq!(source_port(u32::MAX), FIRST);
        assert_eq!(source_port(0x3fff), u16::MAX);
    }
}
