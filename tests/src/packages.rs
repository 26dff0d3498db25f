//! Real servers out of Debian's packages, unpacked into a cache and not installed.
//!
//! Consul left Debian after bullseye, so its package comes from there: with an apt state of its
//! own, so that the machine's package lists stay what they are.

mod apt;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    command::{on_path, output},
    docker::DockerVersion,
    paths,
};

/// `consul`: from `PATH`, else from the cache, else from bullseye.
pub fn consul() -> Result<PathBuf> {
    program("consul", "consul", Suite::Named("bullseye"), "version")
}

/// `prometheus`: from `PATH`, else from the cache, else from this machine's own suite.
pub fn prometheus() -> Result<PathBuf> {
    program("prometheus", "prometheus", Suite::Own, "--version")
}

/// `promtool`, which comes in Prometheus' package.
pub fn promtool() -> Result<PathBuf> {
    program("promtool", "prometheus", Suite::Own, "--version")
}

/// What Open vSwitch's user space data path is made of, with the libraries that Debian's tools of
/// this harness do not bring along.
const OPEN_VSWITCH: [&str; 7] = [
    "openvswitch-switch",
    "openvswitch-common",
    "libunbound8",
    "libxdp1",
    "libbpf1",
    "libcap-ng0",
    "libnuma1",
];

/// The folder that Open vSwitch's packages are unpacked in, from this machine's own suite.
pub fn open_vswitch() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let folder = cache.path.join("openvswitch");
    if !folder.is_dir() {
        eprintln!("fetching openvswitch into {}", cache.path.display());
        fetch(&OPEN_VSWITCH.map(own), &cache.path, &folder)
            .context("get Open vSwitch from Debian's packages")?;
    }
    Ok(folder)
}

/// The library that gives a process a clock of its own, from this machine's own suite.
pub fn faketime() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let folder = cache.path.join("faketime");
    if !folder.is_dir() {
        eprintln!("fetching faketime into {}", cache.path.display());
        fetch(&[own("libfaketime")], &cache.path, &folder)
            .context("get libfaketime from Debian's packages")?;
    }
    let lib = folder.join("usr/lib");
    let triplets = fs::read_dir(&lib).with_context(|| format!("read {}", lib.display()))?;
    triplets
        .flatten()
        .map(|triplet| triplet.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file())
        .with_context(|| format!("no libfaketime is below {}", lib.display()))
}

/// What a Docker host needs beside Docker itself, as old as this machine's C library: the runtime,
/// an init for containers, `iptables`, and what containers are made of.
const DOCKER_HOST: [&str; 13] = [
    "runc",
    "tini",
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libxtables12",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftnl11",
    "libdevmapper1.02.1",
    "libseccomp2",
    "busybox-static",
];

/// The folder that a Docker is unpacked in, with everything it starts.
pub fn docker(version: DockerVersion) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let folder = cache.path.join(format!("docker-{version}"));
    if !folder.is_dir() {
        eprintln!("fetching Docker {version} into {}", cache.path.display());
        let (suite, packages) = version.packages();
        let docker = packages.iter().map(|package| (*package, suite));
        let host = DOCKER_HOST.map(own);
        let all: Vec<_> = docker.chain(host).collect();
        fetch(&all, &cache.path, &folder)
            .with_context(|| format!("get Docker {version} from Debian's packages"))?;
    }
    Ok(folder)
}

/// Docker's compose, version 2. What is in `PATH` may be version 1, another program.
pub fn compose() -> Result<PathBuf> {
    let program = "docker-compose";
    unpacked(program, program, Suite::Named("trixie"), "version")
}

/// A Debian release to take a package from.
#[derive(Debug, Clone, Copy)]
pub enum Suite {
    /// What this machine is configured for.
    Own,
    /// Another release, by its code name, from the same mirror.
    Named(&'static str),
}

/// A package and where to take it from.
type Package<'a> = (&'a str, Suite);

fn own(package: &str) -> Package<'_> {
    (package, Suite::Own)
}

/// Finds `program`, fetching `package` if it must; `proof` is the argument that makes the
/// program say its version, run once after unpacking.
pub fn program(program: &str, package: &str, suite: Suite, proof: &str) -> Result<PathBuf> {
    match on_path(program) {
        Some(path) => Ok(path),
        None => unpacked(program, package, suite, proof),
    }
}

fn unpacked(program: &str, package: &str, suite: Suite, proof: &str) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let cache = &cache.path;
    let folder = cache.join(package);
    let path = folder.join("usr/bin").join(program);
    if !path.is_file() {
        eprintln!("fetching {package} into {}", cache.display());
        fetch(&[(package, suite)], cache, &folder).with_context(|| {
            format!("get `{program}` from Debian's package {package}; or install it into PATH")
        })?;
        output(Command::new(&path).arg(proof))
            .with_context(|| format!("the unpacked {program} does not run on this machine"))?;
    }
    Ok(path)
}

/// Where packages are unpacked, locked: of two runs at once the second waits and finds what the
/// first fetched.
struct Cache {
    path: PathBuf,
    _lock: File,
}

impl Cache {
    fn open() -> Result<Self> {
        let path = paths::target().join("packages");
        fs::create_dir_all(&path).with_context(|| format!("create folder {}", path.display()))?;
        let lock = File::create(path.join("lock")).context("create the cache's lock file")?;
        lock.lock()
            .with_context(|| format!("lock the cache {}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }
}

/// Unpacks beside the final place and renames, so that an interrupted run leaves no half.
fn fetch(packages: &[Package<'_>], cache: &Path, folder: &Path) -> Result<()> {
    let staging = folder.with_extension("part");
    if staging.exists() {
        fs::remove_dir_all(&staging).with_context(|| format!("remove {}", staging.display()))?;
    }
    let unpacked = staging.join("unpacked");
    for (package, suite) in packages {
        let download = staging.join(package);
        for path in [&unpacked, &download] {
            fs::create_dir_all(path)
                .with_context(|| format!("create folder {}", path.display()))?;
        }
        let archive = match suite {
            Suite::Own => apt::download_own(package, &download)?,
            Suite::Named(name) => apt::download_from(name, package, &download, cache)?,
        };
        output(Command::new("dpkg").arg("-x").arg(&archive).arg(&unpacked))?;
    }
    fs::rename(&unpacked, folder).with_context(|| format!("move to {}", folder.display()))?;
    fs::remove_dir_all(&staging).with_context(|| format!("remove {}", staging.display()))
}
