//! What can go wrong with programs and links.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::programs::ProgramError;
use thiserror::Error;

use super::tables::TablesError;
use super::xdp::XdpMode;
use crate::host::checks::CheckError;
use crate::host::endpoint::EndpointError;
use crate::host::fallback::FallbackError;
use crate::host::netlink::NetlinkError;

#[derive(Debug, Error)]
pub enum DatapathError {
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Fallback(#[from] FallbackError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Tables(#[from] TablesError),
    #[error("parse the embedded eBPF object")]
    Object(#[source] Box<aya_obj::ParseError>),
    #[error(
        "the pinned map {} has another shape than this version's ({found}, wanted {wanted}): \
         remove the old data path with `overlay-agent detach --all`",
        path.display()
    )]
    Shape {
        path: PathBuf,
        found: String,
        wanted: String,
    },
    #[error("load the eBPF object's maps")]
    Load(#[source] Box<EbpfError>),
    #[error("the eBPF object has no program {0}: the build is broken")]
    NoProgram(&'static str),
    #[error("load program {program} into the kernel")]
    Program {
        program: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("attach program {program} to device {device}")]
    Attach {
        program: &'static str,
        device: String,
        /// A `ProgramError` or a `LinkError` of aya.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "device {device} already has XDP program {program}: remove it (`ip link set {device} xdp \
         off`) or run with --xdp off"
    )]
    ForeignXdp { device: String, program: String },
    #[error(
        "device {device} cannot run XDP programs in mode {mode}: choose another --xdp mode or off"
    )]
    XdpUnsupported {
        device: String,
        mode: XdpMode,
        #[source]
        source: Box<ProgramError>,
    },
    #[error(
        "device {device} cannot decapsulate in XDP, which --xdp {mode} does not run in its driver: \
         choose --xdp native, or --decap tc"
    )]
    DecapUnsupported { device: String, mode: XdpMode },
    #[error("make device {device} the way to the agent")]
    Service {
        device: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("device {0} does not exist")]
    NoDevice(String),
    #[error("{action} {}", path.display())]
    Pin {
        /// What was attempted.
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Says what was attempted on a pin or its directory.
pub(super) trait PinContext<T> {
    fn pin(self, action: &'static str, path: &std::path::Path) -> Result<T, DatapathError>;
}

impl<T> PinContext<T> for io::Result<T> {
    fn pin(self, action: &'static str, path: &std::path::Path) -> Result<T, DatapathError> {
        self.map_err(|source| DatapathError::Pin {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
