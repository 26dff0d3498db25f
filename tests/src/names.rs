//! Names that tell who made a thing.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

const PREFIX: &str = "ovt";

/// `ovt-<pid>-<n>-<label>`: unique on this machine, and its owner can be told from it.
#[must_use]
pub fn unique(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}-{}-{n}-{label}", std::process::id())
}

/// The process that made the thing of this name, or `None` if it is not one of ours.
#[must_use]
pub fn owner(name: &str) -> Option<u32> {
    let mut parts = name.split('-');
    if parts.next()? != PREFIX {
        return None;
    }
    parts.next()?.parse().ok()
}

/// Namespaces, mounts and attaching programs are all root's business.
pub fn require_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("this needs root: `sudo -E env PATH=\"$PATH:/usr/sbin\" …` keeps cargo in the PATH");
    }
    Ok(())
}
