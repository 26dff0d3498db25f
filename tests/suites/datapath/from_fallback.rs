//! `from_fallback` without a tunnel. What comes out of a real vxlan device is in the suites with
//! real devices: `BPF_PROG_TEST_RUN` has no tunnel metadata to give.

use overlay_common::Direction::Rx;
use overlay_common::DropReason;
use overlay_common::maps::FROM_FALLBACK;

use super::case::{Case, SHOT, check};
use super::fixture::{A, B, dropped};
use super::frames::udp;

#[test]
fn drops_what_came_through_no_tunnel() {
    check(
        vec![Case::new(
            "no tunnel key",
            udp(B, A, 100),
            SHOT,
            dropped(0, 0, Rx, DropReason::NoVni),
        )],
        |programs, case| programs.classify(FROM_FALLBACK, &case.frame, 0),
    );
}
