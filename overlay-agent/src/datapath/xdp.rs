//! XDP on the underlay: whether, and how.

use std::fmt;

use aya::programs::{ProgramError, TcAttachType, Xdp, loaded_programs, xdp};
use aya::sys::SyscallError;
use clap::ValueEnum;
use overlay_common::maps::UNDERLAY_FILTER;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::attach::{self, Hook, Undo};
use super::error::{DatapathError, PinContext as _};
use super::paths::{Paths, UNDERLAY_XDP};
use super::sys::PinnedLink;
use crate::host::link::{Link, XdpHook};

/// Where `underlay_filter` runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver of real NICs, elsewhere not at all.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's generic hook, which works everywhere and costs throughput.
    Generic,
    /// Nowhere: `from_underlay` drops the same packets, later.
    Off,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        })
    }
}

/// The hook that a mode asks for on a device.
pub(super) fn hook(mode: XdpMode, device: &Link) -> Option<XdpHook> {
    match mode {
        XdpMode::Auto => is_real_nic(device).then_some(XdpHook::Native),
        XdpMode::Native => Some(XdpHook::Native),
        XdpMode::Generic => Some(XdpHook::Generic),
        XdpMode::Off => None,
    }
}

/// Virtual devices (veth, tun, bridge, bond …) have a kind, and what XDP costs TCP on them is more
/// than it saves. Paravirtual NICs turn receive offloads off for it.
fn is_real_nic(device: &Link) -> bool {
    device.kind.is_none()
        && device
            .bus
            .as_deref()
            .is_some_and(|bus| !matches!(bus, "virtio" | "vmbus" | "xen"))
}

/// Attaches `underlay_filter` as `mode` says, or detaches it. In mode auto the device goes
/// without where it cannot have it.
///
/// Returns the hook in use.
pub(super) fn attach(
    program: &mut Xdp,
    mode: XdpMode,
    device: &Link,
    paths: &Paths,
    undo: &mut Undo,
) -> Result<Option<XdpHook>, DatapathError> {
    let pin = paths.link(UNDERLAY_XDP);
    let place = Hook {
        program: UNDERLAY_FILTER,
        device,
        pin: pin.clone(),
        way: TcAttachType::Ingress,
    };
    let wanted = hook(mode, device);
    let current = device.xdp.map(|attachment| attachment.hook);
    if let Some(link) = PinnedLink::open(&pin).pin("open pinned link", &pin)? {
        let info = link.info().pin("query pinned link", &pin)?;
        if info.ifindex == device.ifindex && wanted.is_some() && current == wanted {
            place.replace_xdp(program)?;
            return Ok(wanted);
        }
        attach::unpin(&link, &pin)?;
    }
    let Some(hook) = wanted else {
        return Ok(None);
    };
    let flags = match hook {
        XdpHook::Generic => xdp::XdpMode::Skb,
        XdpHook::Native | XdpHook::Other => xdp::XdpMode::Driver,
    };
    match program.attach_to_if_index(device.ifindex, flags) {
        Ok(id) => {
            place.keep_xdp(program, id, undo)?;
            Ok(wanted)
        }
        Err(source) if mode == XdpMode::Auto => {
            let error = format!("{:#}", anyhow::Error::from(source));
            warn!(device = device.name, error, "no XDP on this device");
            Ok(None)
        }
        Err(source) => Err(refused(source, mode, &place)),
    }
}

/// Refuses a device that carries somebody else's XDP program, before anything is changed. In
/// mode auto it is left to them.
///
/// Returns the mode to go on with.
pub(super) fn check_foreign(
    mode: XdpMode,
    device: &Link,
    paths: &Paths,
) -> Result<XdpMode, DatapathError> {
    let (Some(attachment), Some(_)) = (device.xdp, hook(mode, device)) else {
        return Ok(mode);
    };
    let pin = paths.link(UNDERLAY_XDP);
    let ours = match PinnedLink::open(&pin).pin("open pinned link", &pin)? {
        Some(link) => Some(link.info().pin("query pinned link", &pin)?.program),
        None => None,
    };
    if ours == Some(attachment.program) {
        return Ok(mode);
    }
    let program = program_name(attachment.program);
    if mode == XdpMode::Auto {
        info!(
            device = device.name,
            program, "another XDP program is there: going without"
        );
        return Ok(XdpMode::Off);
    }
    Err(DatapathError::ForeignXdp {
        device: device.name.clone(),
        program,
    })
}

/// Name and id of a program, as `bpftool prog` shows them.
fn program_name(id: u32) -> String {
    let name = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_default();
    format!("`{name}` (id {id})")
}

fn refused(source: ProgramError, mode: XdpMode, place: &Hook<'_>) -> DatapathError {
    let unsupported = matches!(
        &source,
        ProgramError::SyscallError(SyscallError { io_error, .. })
            if matches!(io_error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ERANGE))
    );
    if unsupported {
        return DatapathError::XdpUnsupported {
            device: place.device.name.clone(),
            mode,
            source: Box::new(source),
        };
    }
    place.failed(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: Option<&str>, bus: Option<&str>) -> Link {
        Link {
            kind: kind.map(str::to_owned),
            bus: bus.map(str::to_owned),
            ..Link::default()
        }
    }

    #[test]
    fn auto_is_for_real_nics() {
        for (kind, bus, wanted) in [
            (None, Some("pci"), true),
            (None, Some("platform"), true),
            (None, Some("virtio"), false),
            (None, None, false),
            (Some("veth"), None, false),
            (Some("bond"), None, false),
            (Some("vlan"), Some("pci"), false),
        ] {
            let hook = hook(XdpMode::Auto, &device(kind, bus));
            assert_eq!(hook, wanted.then_some(XdpHook::Native), "{kind:?} {bus:?}");
        }
    }

    #[test]
    fn modes_are_taken_at_their_word() {
        let veth = device(Some("veth"), None);
        assert_eq!(hook(XdpMode::Native, &veth), Some(XdpHook::Native));
        assert_eq!(hook(XdpMode::Generic, &veth), Some(XdpHook::Generic));
        assert_eq!(hook(XdpMode::Off, &veth), None);
    }
}
