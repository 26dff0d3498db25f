//! Ctrl-C, SIGTERM and SIGHUP as an error, so that what was made is removed on the way out.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on the signals no longer end this process; [`check`] tells of them. Programs started
/// in the foreground still get theirs, and end.
pub fn install() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(remember),
        SaFlags::empty(),
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("catch {signal}"))?;
    }
    Ok(())
}

/// An error once a signal came.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// What came of the work; after a signal, that there was one: the programs that were ended by it
/// complain in their own words. The work has dropped, and so removed, what it made.
pub fn or_interrupted<T>(worked: Result<T>) -> Result<T> {
    if check().is_err() {
        bail!("interrupted; what was made is removed");
    }
    worked
}
