//! Where everything is pinned.

use std::path::{Path, PathBuf};

use overlay_common::maps::ABI;

/// Directory of a data path on a bpf filesystem. One data path per directory:
///
/// ```text
/// <bpffs>/v<ABI>/maps/<NAME>       maps, apart for each version of their layout
/// <bpffs>/links/<name>             links, across versions: an upgrade replaces their programs
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    bpffs: PathBuf,
}

/// Link of the XDP program on the underlay.
pub(super) const UNDERLAY_XDP: &str = "underlay_xdp";
/// Link of the TC program on the underlay.
pub(super) const FROM_UNDERLAY: &str = "from_underlay";
/// Link of the TC program at the underlay's egress.
pub(super) const TO_UNDERLAY: &str = "to_underlay";
/// Link of the TC program on the fallback device.
pub(super) const FROM_FALLBACK: &str = "from_fallback";
/// Link of the TC program on the host side of the service's veth.
pub(super) const FROM_SERVICE: &str = "from_service";
/// Links of the TC programs on the endpoints' devices: this and the device's name.
const ENDPOINT: &str = "endpoint-";

impl Paths {
    pub fn new(bpffs: impl Into<PathBuf>) -> Self {
        Self {
            bpffs: bpffs.into(),
        }
    }

    /// The directory itself.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    pub fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub fn links(&self) -> PathBuf {
        self.bpffs.join("links")
    }

    pub fn endpoint_link(&self, device: &str) -> PathBuf {
        self.links().join(format!("{ENDPOINT}{device}"))
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    pub(super) fn version(&self) -> PathBuf {
        self.bpffs.join(format!("v{ABI}"))
    }
}

/// The device whose link has this name; `None` for another kind of link.
pub(super) fn endpoint_device(link: &str) -> Option<&str> {
    link.strip_prefix(ENDPOINT)
}

/// Whether a directory of this name holds the maps of some version.
pub(super) fn is_version(name: &str) -> bool {
    name.strip_prefix('v')
        .is_some_and(|abi| !abi.is_empty() && abi.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let paths = Paths::new("/sys/fs/bpf/overlay");
        let link = paths.endpoint_link("ov1a2b");
        let name = link.file_name().unwrap().to_str().unwrap();
        assert_eq!(endpoint_device(name), Some("ov1a2b"));
        assert_eq!(endpoint_device(FROM_UNDERLAY), None);
        let version = paths.version();
        assert!(is_version(version.file_name().unwrap().to_str().unwrap()));
        for name in ["v", "links", "v1x", "1"] {
            assert!(!is_version(name), "{name}");
        }
    }
}
