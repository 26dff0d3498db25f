//! What the host has to offer before anything is loaded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use thiserror::Error;

/// The oldest kernel with TCX links, which can be pinned and replaced in place.
const KERNEL: (u32, u32) = (6, 6);

/// Where bpffs is by convention.
const BPFFS_DEFAULT: &str = "/sys/fs/bpf";

/// One check: what was looked at and what came out, each a single line.
#[derive(Debug)]
pub struct Check {
    pub what: &'static str,
    /// What was found, or what is wrong and what to do about it.
    pub result: Result<String, CheckError>,
}

#[derive(Debug, Error)]
pub enum CheckError {
    #[error("capabilities missing: {}: run as root", .0.join(", "))]
    Capabilities(Vec<&'static str>),
    #[error("Linux {found} is too old: {}.{} or newer is needed", KERNEL.0, KERNEL.1)]
    Kernel { found: String },
    #[error(
        "no bpf filesystem at {}: mount one with `mount -t bpf bpf {}`",
        dir.display(),
        mount.display()
    )]
    Bpffs { dir: PathBuf, mount: PathBuf },
    #[error(
        "the kernel refuses TCX ({0}): CONFIG_NET_XGRESS=y and CONFIG_BPF_SYSCALL=y are needed"
    )]
    Tcx(String),
    #[error("read {what}")]
    Read {
        what: String,
        #[source]
        source: io::Error,
    },
}

/// Runs every check, in the order in which a newcomer would want them fixed.
pub fn all(bpffs: &Path) -> Vec<Check> {
    vec![
        Check {
            what: "capabilities",
            result: capabilities(),
        },
        Check {
            what: "kernel",
            result: kernel(),
        },
        Check {
            what: "bpffs",
            result: bpf_filesystem(bpffs),
        },
        Check {
            what: "tcx",
            result: tcx(),
        },
    ]
}

/// The first check that fails, if one does.
pub fn require(bpffs: &Path) -> Result<(), CheckError> {
    for check in all(bpffs) {
        check.result?;
    }
    Ok(())
}

/// linux/capability.h: number, name.
const NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
const SYS_ADMIN: (u32, &str) = (21, "CAP_SYS_ADMIN");
const PERFMON: (u32, &str) = (38, "CAP_PERFMON");
const BPF: (u32, &str) = (39, "CAP_BPF");

/// Whether we may do what the agent does.
pub fn capabilities() -> Result<String, CheckError> {
    let path = "/proc/self/status";
    let failed = |source| CheckError::Read {
        what: path.to_owned(),
        source,
    };
    let status = fs::read_to_string(path).map_err(failed)?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or_else(|| failed(io::Error::other("no CapEff line")))?;
    let missing = missing_capabilities(effective);
    if missing.is_empty() {
        return Ok("root or as good as".to_owned());
    }
    Err(CheckError::Capabilities(missing))
}

/// `CAP_SYS_ADMIN` is for entering the containers' namespaces; it includes the two for BPF.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |(bit, _): (u32, &str)| effective & (1 << bit) != 0;
    [NET_ADMIN, SYS_ADMIN, PERFMON, BPF]
        .into_iter()
        .filter(|&capability| {
            let included = matches!(capability, PERFMON | BPF) && has(SYS_ADMIN);
            !has(capability) && !included
        })
        .map(|(_, name)| name)
        .collect()
}

fn kernel() -> Result<String, CheckError> {
    let uname = nix::sys::utsname::uname().map_err(|errno| CheckError::Read {
        what: "the kernel's version".to_owned(),
        source: errno.into(),
    })?;
    let release = uname.release().to_string_lossy().into_owned();
    match kernel_version(&release) {
        Some(version) if version >= KERNEL => Ok(format!("Linux {release}")),
        Some(_) | None => Err(CheckError::Kernel { found: release }),
    }
}

/// Major and minor of a release like `6.12.3-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// Whether pins can be made in `dir`, which need not exist yet.
pub(crate) fn bpf_filesystem(dir: &Path) -> Result<String, CheckError> {
    // The directory to be made belongs to the filesystem of the nearest one that is there.
    let existing = dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let kind = statfs(existing).map_err(|errno| CheckError::Read {
        what: format!("the filesystem of {}", existing.display()),
        source: errno.into(),
    })?;
    if kind.filesystem_type() == BPF_FS_MAGIC {
        return Ok(format!("bpf filesystem at {}", dir.display()));
    }
    let mount = if dir.starts_with(BPFFS_DEFAULT) {
        BPFFS_DEFAULT.into()
    } else {
        dir.to_owned()
    };
    Err(CheckError::Bpffs {
        dir: dir.to_owned(),
        mount,
    })
}

fn tcx() -> Result<String, CheckError> {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Ok("usable".to_owned()),
        Err(error) => Err(CheckError::Tcx(format!("{:#}", anyhow::Error::from(error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions() {
        assert_eq!(kernel_version("6.12.3-amd64"), Some((6, 12)));
        assert_eq!(kernel_version("6.6-rc1"), Some((6, 6)));
        assert_eq!(kernel_version("5.10.0+deb11"), Some((5, 10)));
        assert!(kernel_version("5.10.0") < Some(KERNEL));
        assert!(kernel_version("10.0.0") > Some(KERNEL));
        assert_eq!(kernel_version("Linux"), None);
        assert_eq!(kernel_version("6"), None);
    }

    #[test]
    fn capability_bits() {
        assert_eq!(missing_capabilities(u64::MAX), Vec::<&str>::new());
        assert_eq!(missing_capabilities(1 << 12 | 1 << 21), Vec::<&str>::new());
        assert_eq!(
            missing_capabilities(1 << 12),
            ["CAP_SYS_ADMIN", "CAP_PERFMON", "CAP_BPF"]
        );
        assert_eq!(
            missing_capabilities(1 << 12 | 1 << 39),
            ["CAP_SYS_ADMIN", "CAP_PERFMON"]
        );
    }

    #[test]
    fn bpffs_says_where_to_mount() {
        let error = bpf_filesystem(Path::new("/proc/overlay/deep")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no bpf filesystem at /proc/overlay/deep: mount one with `mount -t bpf bpf \
             /proc/overlay/deep`"
        );
    }
}
