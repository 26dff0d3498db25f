//! Which Docker to test with.

use std::{fmt, str::FromStr};

use anyhow::{Context as _, Result};

use crate::packages::Suite;

/// Chooses the version; set by `cargo xtask test --docker-version`.
pub const VERSION_ENV: &str = "OVERLAY_DOCKER_VERSION";

/// A Docker that a release of Debian carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DockerVersion {
    V20_10,
    #[default]
    V26_1,
    V28_5,
}

impl DockerVersion {
    pub const ALL: [Self; 3] = [Self::V20_10, Self::V26_1, Self::V28_5];

    /// What [`VERSION_ENV`] says.
    ///
    /// # Errors
    /// It names no version that is known here.
    pub fn from_env() -> Result<Self> {
        match std::env::var(VERSION_ENV) {
            Ok(version) => version.parse().context(VERSION_ENV),
            Err(_) => Ok(Self::default()),
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V20_10 => "20.10",
            Self::V26_1 => "26.1",
            Self::V28_5 => "28.5",
        }
    }

    /// Debian's release, and what it calls the daemon, containerd and the command line.
    pub(crate) const fn packages(self) -> (Suite, &'static [&'static str]) {
        match self {
            Self::V20_10 => (Suite::Named("bookworm"), &["docker.io", "containerd"]),
            Self::V26_1 => (
                Suite::Named("trixie"),
                &["docker.io", "docker-cli", "containerd"],
            ),
            Self::V28_5 => (
                Suite::Named("sid"),
                &["docker.io", "docker-cli", "containerd"],
            ),
        }
    }
}

impl fmt::Display for DockerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DockerVersion {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.map(Self::name);
        let mut all = Self::ALL.into_iter();
        all.find(|version| version.name() == name)
            .with_context(|| format!("no Docker {name:?} here, but {}", known.join(", ")))
    }
}
