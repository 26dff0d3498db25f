//! The containerd of one Docker. dockerd would start one by itself, and end it when it ends.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::{enclosure::Enclosure, flag, programs::Programs};
use crate::{process::Daemon, workdir::WorkDir};

const START_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn socket(work: &WorkDir) -> PathBuf {
    work.path().join("containerd.sock")
}

pub(super) fn start(
    label: &str,
    programs: &Programs,
    enclosure: &Enclosure,
    work: &WorkDir,
) -> Result<Daemon> {
    let folder = work.folder("containerd")?;
    let socket = socket(work);
    let config = folder.join("config.toml");
    // Kubernetes' part needs more of a machine than there is, and Docker does not use it.
    let settings = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
        folder.join("root"),
        folder.join("state"),
    );
    fs::write(&config, settings).with_context(|| format!("write {}", config.display()))?;
    let mut command = programs.command("usr/bin/containerd");
    command.args(flag("--config", &config));
    let name = format!("the containerd of {label}");
    let log = work.path().join("containerd.log");
    let mut containerd = enclosure.spawn(&name, command, &log)?;
    containerd.wait_ready(START_TIMEOUT, || {
        fs::metadata(&socket).with_context(|| format!("find {}", socket.display()))?;
        Ok(())
    })?;
    Ok(containerd)
}

/// What a start of the machine clears: the state of containers that ran, and the socket.
pub(super) fn forget(work: &WorkDir) -> Result<()> {
    let state = work.folder("containerd")?.join("state");
    if state.exists() {
        fs::remove_dir_all(&state).with_context(|| format!("remove {}", state.display()))?;
    }
    let socket = socket(work);
    fs::remove_file(&socket).with_context(|| format!("remove {}", socket.display()))
}
