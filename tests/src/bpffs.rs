//! Folders for pins.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::{names::unique, sweep::sweep};

/// Where the BPF file system is mounted by convention.
pub const MOUNT: &str = "/sys/fs/bpf";

/// A folder on the BPF file system, removed with all pins in it on drop.
#[derive(Debug)]
pub struct BpfDir(PathBuf);

impl BpfDir {
    /// Makes `/sys/fs/bpf/ovt-<pid>-<n>-<label>`; mounts the file system if nobody did.
    pub fn new(label: &str) -> Result<Self> {
        sweep();
        ensure_mounted()?;
        let path = Path::new(MOUNT).join(unique(label));
        fs::create_dir(&path).with_context(|| format!("create folder {}", path.display()))?;
        Ok(Self(path))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for BpfDir {
    fn drop(&mut self) {
        // The agent may have removed its own folder: that is as good.
        match fs::remove_dir_all(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("not removed: {}: {error}", self.0.display()),
        }
    }
}

fn ensure_mounted() -> Result<()> {
    // A second mount would hide the pins made on the first.
    static MOUNTING: Mutex<()> = Mutex::new(());
    let _guard = MOUNTING
        .lock()
        .map_err(|_| anyhow!("an earlier mount of {MOUNT} panicked"))?;
    let found = statfs(MOUNT).with_context(|| format!("look at {MOUNT}"))?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(
        Some("bpf"),
        MOUNT,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mount the BPF file system on {MOUNT} (needs root)"))
}
