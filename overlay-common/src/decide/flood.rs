//! Frames for nobody in particular: whether and how often a network floods them.

use crate::DropReason;
use crate::layout::{FloodMode, VniValue};

const NANOSECONDS: u64 = 1_000_000_000;
/// Frames that may go out at once, at any rate: a host that starts sends about as many.
const BURST_MIN: u64 = 32;
/// Part of a second whose frames may go out at once, at high rates.
const BURST_SHARE: u64 = 10;

/// What the network does with a frame for nobody in particular.
#[inline(always)]
pub const fn mode(network: &VniValue) -> FloodMode {
    FloodMode::from_number(network.flood)
}

/// Whether an endpoint's frame is flooded, and when the next one is due.
///
/// `due` is when this one is by the network's rate and `now` the time, both in nanoseconds of one
/// clock; `frames` is how many it is on the wire. A generic cell rate algorithm (ITU-T I.371,
/// annex A): the state is one number, so that processors which read and write it without a lock
/// err by a frame each, not more.
#[inline(always)]
pub const fn send(
    network: &VniValue,
    due: u64,
    now: u64,
    frames: u64,
) -> Result<(FloodMode, u64), DropReason> {
    let mode = mode(network);
    if matches!(mode, FloodMode::Drop) {
        return Err(DropReason::FloodDisabled);
    }
    let rate = network.flood_rate as u64;
    if rate == 0 {
        return Err(DropReason::FloodRate);
    }
    let interval = NANOSECONDS / rate;
    let share = rate / BURST_SHARE;
    let burst = if share > BURST_MIN { share } else { BURST_MIN };
    // How far the network is ahead of its rate.
    let ahead = due.saturating_sub(now);
    if ahead > (burst - 1) * interval {
        return Err(DropReason::FloodRate);
    }
    Ok((mode, now + ahead + frames * interval))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(rate: u32) -> VniValue {
        VniValue {
            flood: FloodMode::Replicate as u32,
            flood_rate: rate,
            ..VniValue::default()
        }
    }

    /// Frames that pass of those sent at the given times.
    fn passed(rate: u32, times: impl IntoIterator<Item = u64>) -> u64 {
        let mut due = 0;
        let mut passed = 0;
        for now in times {
            if let Ok((_, next)) = send(&network(rate), due, now, 1) {
                due = next;
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn a_network_that_does_not_flood_drops() {
        let refused = |network: VniValue| send(&network, 0, 1, 1).unwrap_err();
        assert_eq!(refused(VniValue::default()), DropReason::FloodDisabled);
        let unknown = VniValue {
            flood: 3,
            ..network(1000)
        };
        assert_eq!(refused(unknown), DropReason::FloodDisabled);
        assert_eq!(refused(network(0)), DropReason::FloodRate);
    }

    #[test]
    fn bursts() {
        for (rate, burst) in [(1, 32), (100, 32), (320, 32), (1000, 100), (50_000, 5000)] {
            assert_eq!(passed(rate, [NANOSECONDS; 10_000]), burst, "rate {rate}");
        }
    }

    #[test]
    fn a_super_packet_counts_as_its_segments() {
        let (_, due) = send(&network(1000), 0, NANOSECONDS, 45).unwrap();
        assert_eq!(due, NANOSECONDS + 45_000_000);
    }

    proptest! {
        /// Over any time no more than the rate and one burst, and no less than the rate.
        #[test]
        fn keeps_the_rate(rate in 1u32..100_000, seconds in 1u64..5, gap in 1000u64..1_000_000) {
            let start = NANOSECONDS;
            let end = start + seconds * NANOSECONDS;
            let sent = (end - start).div_ceil(gap);
            let passed = passed(rate, (start..end).step_by(gap as usize));
            let burst = (u64::from(rate) / 10).max(32);
            let bound = u64::from(rate) * seconds + burst;
            // Intervals are whole nanoseconds: at most a part in 10 000 too short.
            prop_assert!(passed <= bound + bound / 10_000 + 1, "{passed} of {sent} passed");
            prop_assert!(passed >= sent.min(u64::from(rate) * seconds), "{passed} of {sent} passed");
        }

        /// No arithmetic that overflows, whatever is in the maps.
        #[test]
        fn any_numbers(rate: u32, flood in 0u32..4, due: u64, now in 0u64..u64::MAX / 2, frames in 1u64..65_536) {
            let network = VniValue { flood, flood_rate: rate, ..VniValue::default() };
            let _ = send(&network, due, now, frames);
        }
    }
}
