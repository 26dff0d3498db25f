//! Programs of the system.

use std::process::Command;

use ::tests::{command::on_path, names::require_root};
use anyhow::{Result, bail};

use crate::shell::stream;

/// A program and the Debian package it comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

impl Program {
    pub(crate) const IP: Self = Self::new("ip", "iproute2");
    pub(crate) const BRIDGE: Self = Self::new("bridge", "iproute2");
    pub(crate) const PING: Self = Self::new("ping", "iputils-ping");
    pub(crate) const IPERF3: Self = Self::new("iperf3", "iperf3");
    pub(crate) const QPERF: Self = Self::new("qperf", "qperf");
    pub(crate) const SOCKPERF: Self = Self::new("sockperf", "sockperf");
    pub(crate) const ETHTOOL: Self = Self::new("ethtool", "ethtool");
    pub(crate) const CXX: Self = Self::new("c++", "g++");
    pub(crate) const TASKSET: Self = Self::new("taskset", "util-linux");

    const fn new(name: &'static str, package: &'static str) -> Self {
        Self { name, package }
    }
}

/// Everything that a suite may use.
pub(crate) const ALL: [Program; 12] = [
    Program::IP,
    Program::BRIDGE,
    Program::new("tc", "iproute2"),
    Program::PING,
    Program::IPERF3,
    Program::QPERF,
    Program::TASKSET,
    Program::new("tcpdump", "tcpdump"),
    Program::new("tshark", "tshark"),
    Program::ETHTOOL,
    Program::new("pgrep", "procps"),
    Program::new("bpftool", "bpftool"),
];

/// Installs the packages of those that are not in `PATH`.
pub(crate) fn programs(wanted: &[Program]) -> Result<()> {
    let packages = missing_packages(wanted);
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if on_path("apt-get").is_none() {
        bail!("this machine has no apt-get: install what Debian calls {list}");
    }
    if require_root().is_err() {
        bail!("system packages are missing: run `apt-get install {list}` as root");
    }
    eprintln!("installing system packages: {list}");
    stream(Command::new("apt-get").args(["-q", "update"]))?;
    stream(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "install", "-y", "--no-install-recommends"])
            .args(&packages),
    )?;
    let still = missing_packages(wanted);
    if !still.is_empty() {
        bail!(
            "installed but not in PATH: programs of {}; is /usr/sbin in PATH?",
            still.join(" ")
        );
    }
    Ok(())
}

fn missing_packages(wanted: &[Program]) -> Vec<&'static str> {
    let missing = wanted
        .iter()
        .filter(|program| on_path(program.name).is_none());
    let mut packages: Vec<&str> = missing.map(|program| program.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::{Program, missing_packages};

    #[test]
    fn each_missing_package_is_named_once() {
        let wanted = [
            Program::new("no-such-program-1", "b"),
            Program::new("sh", "dash"),
            Program::new("no-such-program-2", "a"),
            Program::new("no-such-program-3", "b"),
        ];
        assert_eq!(missing_packages(&wanted), ["a", "b"]);
    }
}
