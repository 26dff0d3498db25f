//! Parsers and decisions on bytes of every kind. `cargo xtask fuzz` runs the same checks for longer,
//! and with bytes chosen by the branches they reach.

mod checks;

use std::fmt;

use proptest::prelude::*;

use checks::templates::TEMPLATES;
use checks::{answers, endpoint, guard, parsers, underlay};

/// Shown in one line when a check fails.
struct Bytes(Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Input of a check: circumstances, a well-formed frame, and few or many bytes of it changed.
fn inputs() -> impl Strategy<Value = Bytes> {
    let templates = u8::try_from(TEMPLATES.len()).expect("few");
    let head = (
        0..templates,
        any::<u8>(),
        prop_oneof![2 => Just(0), 1 => any::<u8>()],
        any::<u8>(),
    );
    let changes = prop::collection::vec((0usize..192, any::<u8>()), 0..4);
    let sparse = (0usize..64, changes).prop_map(|(cut, changes)| (cut, changes, Vec::new()));
    let dense = (0usize..64, prop::collection::vec(any::<u8>(), 0..256))
        .prop_map(|(cut, bytes)| (cut, Vec::new(), bytes));
    (head, prop_oneof![4 => sparse, 1 => dense]).prop_map(
        |((template, bits, gso, repair), body)| {
            let (cut, changes, bytes) = body;
            let whole = TEMPLATES[usize::from(template)].len();
            let mut data = vec![template, bits, gso, repair];
            // Three in four whole.
            let len = if cut < 48 {
                whole
            } else {
                whole * (cut - 48) / 16
            };
            data.resize(4 + len.max(bytes.len()), 0);
            data[4..4 + bytes.len()].copy_from_slice(&bytes);
            for (at, value) in changes {
                let at = 4 + at % len.max(1);
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= value;
                }
            }
            Bytes(data)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn frames_on_the_underlay(data in inputs()) {
        underlay::check(&data.0);
    }

    #[test]
    fn frames_of_an_endpoint(data in inputs()) {
        endpoint::check(&data.0);
    }

    #[test]
    fn answers_and_errors(data in inputs()) {
        answers::check(&data.0);
    }

    #[test]
    fn frames_of_the_host(data in inputs()) {
        guard::check(&data.0);
    }

    #[test]
    fn readers(data in inputs()) {
        parsers::check(&data.0);
    }
}

/// The frames that everything starts from are what they are meant to be.
#[test]
fn templates_are_well_formed() {
    let mut tunnelled = 0;
    for (i, frame) in TEMPLATES.iter().enumerate().skip(1) {
        etherparse::SlicedPacket::from_ethernet(frame).unwrap_or_else(|e| panic!("{i}: {e}"));
        tunnelled += usize::from(checks::reference::vxlan(frame).is_some());
    }
    assert_eq!(tunnelled, 8);
}

/// A request of nothing but zeroes becomes an answer of nothing but zeroes, whose checksum is ffff and
/// not 0: the one message that tells the two apart. Nobody guesses it.
#[test]
fn echo_of_zeroes() {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 254], 64)
        .icmpv4_echo_request(0, 0)
        .write(&mut frame, &[])
        .expect("write to memory");
    answers::check(&[&[0; 4], &frame[..]].concat());
}
