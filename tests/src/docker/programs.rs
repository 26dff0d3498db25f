//! The unpacked programs, and what they must find.

use std::{ffi::OsStr, os::unix::fs::symlink, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::DockerVersion;
use crate::{command::output, packages, workdir::WorkDir};

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What the packages leave to Debian's alternatives.
const IPTABLES: [&str; 6] = [
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];

/// A folder of packages, and one of links that this run needs besides.
#[derive(Debug)]
pub(super) struct Programs {
    root: PathBuf,
    links: PathBuf,
}

impl Programs {
    pub(super) fn get(version: DockerVersion, work: &WorkDir) -> Result<Self> {
        let root = packages::docker(version)?;
        let links = work.folder("bin")?;
        for name in IPTABLES {
            symlink(root.join("usr/sbin/xtables-nft-multi"), links.join(name))
                .with_context(|| format!("link {name}"))?;
        }
        let this = Self { root, links };
        // Releases in the making replace their packages.
        let said = output(this.command("usr/sbin/dockerd").arg("--version"))?;
        ensure!(
            said.contains(&format!("version {version}.")),
            "wanted Docker {version}, and {} is: {}",
            this.root.display(),
            said.trim()
        );
        Ok(this)
    }

    /// The path of one of them.
    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.root.join(program)
    }

    /// One of them, which will find the others.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        self.environment(&mut command);
        command
    }

    /// Lets a command find them all, and know nothing of the settings of whoever runs the tests.
    pub(super) fn environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DOCKER_") {
                command.env_remove(name);
            }
        }
        let libraries = self.path(LIBRARIES);
        let mut path = vec![self.links.clone()];
        path.extend(["usr/bin", "usr/sbin"].map(|folder| self.path(folder)));
        path.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
        let path: Vec<&OsStr> = path.iter().map(|folder| folder.as_os_str()).collect();
        command
            .env("PATH", path.join(OsStr::new(":")))
            .env("XTABLES_LIBDIR", libraries.join("xtables"))
            .env("LD_LIBRARY_PATH", libraries);
    }
}
