//! `run`

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::start;
use crate::names;

pub(super) async fn exec(config: Config) -> Result<()> {
    end_on_panic();
    take_all_descriptors()?;
    start::run(config, stop_signal()?).await
}

/// As many as may be had: the usual limit of 1024 is for programs that know select(2).
fn take_all_descriptors() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of open files")
}

/// Cancelled by SIGTERM and SIGINT.
pub(super) fn stop_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(token)
}

/// An agent of which one task is dead would look alive and do nothing. The data path does not
/// need it, and the next start takes over. The name server reads what containers send: its end is its own.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        if std::thread::current().name() != Some(names::THREAD) {
            std::process::abort();
        }
    }));
}
