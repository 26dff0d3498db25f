//! Where the outer headers come off.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::error::DatapathError;
use super::xdp::{self, XdpMode};
use crate::host::link::{Link, XdpHook};

/// Where frames from peers are decapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecapMode {
    /// In XDP on real NICs that run it in the driver, elsewhere at TC.
    Auto,
    /// By `from_underlay`, at TC.
    #[default]
    Tc,
    /// By `underlay_filter`, in XDP: the driver has to run it.
    Xdp,
}

/// Where they are, of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decap {
    Tc,
    /// What XDP can do right; the rest at TC.
    Xdp,
}

impl fmt::Display for Decap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        })
    }
}

/// How XDP has to be attached for a decap mode. Decapsulation that was asked for by name leaves XDP no
/// choice: what it cannot have is refused.
pub(super) fn xdp_mode(
    decap: DecapMode,
    mode: XdpMode,
    device: &Link,
) -> Result<XdpMode, DatapathError> {
    match (decap, mode) {
        (DecapMode::Auto | DecapMode::Tc, mode) => Ok(mode),
        (DecapMode::Xdp, XdpMode::Native) => Ok(mode),
        (DecapMode::Xdp, XdpMode::Auto) if xdp::hook(mode, device).is_some() => Ok(XdpMode::Native),
        (DecapMode::Xdp, XdpMode::Auto | XdpMode::Generic | XdpMode::Off) => {
            Err(DatapathError::DecapUnsupported {
                device: device.name.clone(),
                mode,
            })
        }
    }
}

/// Where frames are decapsulated with XDP at `hook`. Not in the generic one: by then GRO is done, and
/// of what it has merged XDP cannot see that it is merged.
pub(super) fn choose(decap: DecapMode, hook: Option<XdpHook>, device: &Link) -> Decap {
    let native = hook == Some(XdpHook::Native);
    let wanted = match decap {
        DecapMode::Auto => xdp::hook(XdpMode::Auto, device).is_some(),
        DecapMode::Tc => false,
        DecapMode::Xdp => true,
    };
    if native && wanted {
        Decap::Xdp
    } else {
        Decap::Tc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> [Link; 2] {
        [(None, Some("pci")), (Some("veth"), None)].map(|(kind, bus): (Option<&str>, _)| Link {
            kind: kind.map(str::to_owned),
            bus: bus.map(str::to_owned),
            ..Link::default()
        })
    }

    /// For a real NIC and a veth: where, or that it is refused.
    #[test]
    fn modes() {
        use XdpMode::{Auto, Generic, Native, Off};
        let (tc, xdp) = (Some(Decap::Tc), Some(Decap::Xdp));
        for (decap, mode, wanted) in [
            (DecapMode::Tc, Native, [tc, tc]),
            (DecapMode::Tc, Off, [tc, tc]),
            (DecapMode::Auto, Auto, [xdp, tc]),
            (DecapMode::Auto, Native, [xdp, tc]),
            (DecapMode::Auto, Generic, [tc, tc]),
            (DecapMode::Auto, Off, [tc, tc]),
            (DecapMode::Xdp, Auto, [xdp, None]),
            (DecapMode::Xdp, Native, [xdp, xdp]),
            (DecapMode::Xdp, Generic, [None, None]),
            (DecapMode::Xdp, Off, [None, None]),
        ] {
            let found = devices().map(|device| {
                let mode = xdp_mode(decap, mode, &device).ok()?;
                Some(choose(decap, xdp::hook(mode, &device), &device))
            });
            assert_eq!(found, wanted, "{decap:?} {mode}");
        }
    }

    /// Else the device would be left without, without a word.
    #[test]
    fn xdp_that_was_asked_for_is_no_try() {
        let [nic, _] = devices();
        let mode = xdp_mode(DecapMode::Xdp, XdpMode::Auto, &nic).unwrap();
        assert_eq!(mode, XdpMode::Native);
    }
}
