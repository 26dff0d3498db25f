//! What a Docker could leave behind, and whether it did.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tests::docker::Docker;

/// By what the traces of a Docker are known: its folder's name, and its control group's.
#[derive(Debug)]
pub struct Traces {
    folder: PathBuf,
    cgroup: String,
}

impl Traces {
    pub fn of(docker: &Docker) -> Self {
        Self {
            folder: docker.work().to_owned(),
            cgroup: docker.cgroup().path(),
        }
    }

    pub fn to_text(&self) -> String {
        format!("{}\n{}", self.folder.display(), self.cgroup)
    }

    pub fn from_text(text: &str) -> Result<Self> {
        let (folder, cgroup) = text.split_once('\n').context("two lines")?;
        Ok(Self {
            folder: folder.into(),
            cgroup: cgroup.to_owned(),
        })
    }

    /// Its files, its control groups, and every process that it has started, that sees a mount of
    /// its or that is in a control group of its.
    pub fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        if self.folder.exists() {
            left.push(self.folder.display().to_string());
        }
        let name = self.cgroup.trim_start_matches('/');
        for top in entries("/sys/fs/cgroup")? {
            for folder in [top.join(name), top.with_file_name(name)] {
                if folder.exists() {
                    left.push(folder.display().to_string());
                }
            }
        }
        let folder = self.folder.to_str().context("a path that is not UTF-8")?;
        for process in entries("/proc")? {
            let known = ["cmdline", "environ", "mountinfo", "cgroup"].map(|file| {
                // Not a process, or one that has just ended.
                let content = fs::read(process.join(file)).unwrap_or_default();
                let content = String::from_utf8_lossy(&content);
                content.contains(folder) || content.contains(&self.cgroup)
            });
            if known.contains(&true) {
                let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
                left.push(format!("{} {}", process.display(), name.trim()));
            }
        }
        Ok(left)
    }
}

/// What is there of the machine itself: network devices and how packets are forwarded, mounts,
/// control groups, and the folders that Docker takes for its own. What other runs of the harness
/// have is left out.
pub fn machine() -> Result<BTreeSet<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    let forward = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").context("ip_forward")?;
    let mut all: BTreeSet<String> = mounts.lines().map(str::to_owned).collect();
    all.insert(format!("ip_forward {forward}"));
    let groups = entries("/sys/fs/cgroup")?;
    let places = ["/run", "/etc", "/var/lib", "/sys/class/net"].map(PathBuf::from);
    for folder in groups.into_iter().chain(places) {
        let inside = entries(&folder).unwrap_or_default();
        all.extend(inside.iter().map(|path| path.display().to_string()));
    }
    let of_a_run = |thing: &String| {
        ["/ovt-", "/overlay-test-"]
            .iter()
            .any(|name| thing.contains(name))
    };
    all.retain(|thing| !of_a_run(thing));
    Ok(all)
}

fn entries(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}
