//! A decision as a number, which is all that a function with a stack frame of its own may return.

use overlay_common::DropReason;
use overlay_common::decide::endpoint::Exception;
use overlay_common::net::MacAddr;

const DECIDED: u8 = 0;
const REFUSED: u8 = 1;

/// From the highest byte on: whether it is refused, exception or reason, the MAC.
#[inline(always)]
pub(super) fn pack(decision: Result<Exception, DropReason>, mac: MacAddr) -> u64 {
    let (kind, number) = match decision {
        Ok(exception) => (DECIDED, exception as u8),
        Err(reason) => (REFUSED, reason as u8),
    };
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([kind, number, a, b, c, d, e, f])
}

/// What [`pack`] was given.
#[inline(always)]
pub(super) fn unpack(decision: u64) -> (Result<Exception, DropReason>, MacAddr) {
    let [kind, number, a, b, c, d, e, f] = decision.to_be_bytes();
    let decided = match Exception::from_number(number) {
        Some(exception) if kind == DECIDED => Ok(exception),
        // Nothing but reasons is packed there.
        Some(_) | None => Err(DropReason::from_number(number).unwrap_or(DropReason::Truncated)),
    };
    (decided, MacAddr([a, b, c, d, e, f]))
}
