//! How the two hosts' cable treats large TCP packets.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use tests::{
    command::output,
    lab::{Host, UNDERLAY},
};

/// Settings of both ends of the underlay's cable, the same for every arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Link {
    /// Super-packets cross whole, as over a NIC that segments VXLAN: a veth as it is
    Offload,
    /// The sender cuts them to packets, and the receiver merges those again
    Wire,
}

impl Link {
    /// As in the JSON report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Offload => "offload",
            Self::Wire => "wire",
        }
    }

    fn features(self) -> [&'static str; 6] {
        match self {
            Self::Offload => ["tso", "on", "gso", "on", "gro", "off"],
            Self::Wire => ["tso", "off", "gso", "off", "gro", "on"],
        }
    }

    /// Sets it on a host's underlay.
    pub(super) fn set(self, host: &Host) -> Result<()> {
        let mut ethtool = host.netns().command("ethtool")?;
        output(ethtool.args(["-K", UNDERLAY]).args(self.features()))
            .with_context(|| format!("make a link `{}` of {UNDERLAY}", self.name()))?;
        Ok(())
    }
}
