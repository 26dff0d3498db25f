//! The programs' log lines about drops (`--log-drops`), passed on to tracing.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

/// Takes log records of the programs to tracing, whatever their level: they are written only
/// when asked for.
struct Tracing;

impl Log for Tracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        info!(target: "drops", "{}", record.args());
    }

    fn flush(&self) {}
}

/// Follows the log on the current tokio runtime until that ends.
pub(super) fn follow(ebpf: &mut Ebpf) {
    let logger = match EbpfLogger::init_with_logger(ebpf, Tracing) {
        Ok(logger) => logger,
        Err(error) => return warn!(%error, "drops are not logged"),
    };
    // SAFETY: the logger owns its ring buffer's descriptor, returns the same one for as long as
    // it lives, and is not taken out of the `AsyncFd`.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = match registered {
        Ok(logger) => logger,
        Err(error) => return warn!(%error, "drops are not logged"),
    };
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
}
