//! Removal of what a killed run left behind.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

use anyhow::{Context as _, Result};

use crate::{bpffs, cgroup, names, netns};

/// Removes what dead runs left: processes in their namespaces, the namespaces, control groups,
/// pins, folders.
///
/// Runs once per process. A failure is told and not fatal: the leftover of another run does
/// not stop this one.
pub fn sweep() {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        // Namespaces first: what runs in them uses the rest.
        let mut places = vec![(
            PathBuf::from(netns::FOLDER),
            remove_netns as fn(&Path) -> Result<()>,
        )];
        let groups = cgroup::hierarchies().into_iter();
        places.extend(groups.map(|top| (top, cgroup::remove as _)));
        places.push((PathBuf::from(bpffs::MOUNT), remove_folder));
        places.push((std::env::temp_dir(), remove_folder));
        for (folder, remove) in places {
            for path in leftovers(&folder) {
                if let Err(error) = remove(&path) {
                    eprintln!("leftover of an earlier run not removed: {error:#}");
                }
            }
        }
    });
}

fn leftovers(folder: &Path) -> Vec<PathBuf> {
    // A folder that is not there holds no leftovers.
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str()
                .and_then(names::owner)
                .is_some_and(|pid| !is_alive(pid))
        })
        .map(|entry| entry.path())
        .collect()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    // `pid (name) state …`; a zombie waits for nothing but its parent.
    stat.is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes());
        !matches!(state, Some([b'Z' | b'X', ..]))
    })
}

fn remove_netns(path: &Path) -> Result<()> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .context("name of a namespace")?;
    netns::remove(name)
}

fn remove_folder(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))
}
