//! Attaching programs through pinned links, and undoing it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::pin::PinError;
use aya::programs::links::{self, FdLink, LinkError};
use aya::programs::tc::TcAttachOptions;
use aya::programs::xdp::XdpLinkId;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp};
use aya::sys::SyscallError;

use super::error::{DatapathError, PinContext as _};
use super::sys::PinnedLink;
use crate::host::Netlink;
use crate::host::link::Link;

/// What was newly made, to be removed again when a later step fails.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// Devices that must not be up without the program they have now: index and name.
    guarded: Vec<(u32, String)>,
    links: Vec<PathBuf>,
    maps: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// A program of an earlier run was replaced by ours, which goes on with the maps that it has.
    replaced: bool,
}

impl Undo {
    pub(super) fn map(&mut self, pin: PathBuf) {
        self.maps.push(pin);
    }

    /// Makes a directory and those above it, and remembers the ones that were not there.
    pub(super) fn create_directory(&mut self, path: &Path) -> Result<(), DatapathError> {
        let missing: Vec<_> = path.ancestors().take_while(|path| !path.exists()).collect();
        fs::create_dir_all(path).pin("create directory", path)?;
        self.directories
            .extend(missing.into_iter().rev().map(Path::to_owned));
        Ok(())
    }

    /// Removes everything, but the maps of programs that stay because they have replaced others. Errors
    /// are not reported: the one that led here is.
    pub(super) async fn run(self, netlink: &Netlink) {
        for (ifindex, name) in self.guarded {
            let _ = netlink.set_down(ifindex, &name).await;
        }
        for pin in self.links {
            if let Ok(Some(link)) = PinnedLink::open(&pin) {
                let _ = unpin(&link, &pin);
            }
        }
        if self.replaced {
            return;
        }
        for pin in self.maps {
            let _ = fs::remove_file(pin);
        }
        for path in self.directories.into_iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Detaches a link's program and removes its pin.
pub(super) fn unpin(link: &PinnedLink, pin: &Path) -> Result<(), DatapathError> {
    link.detach().pin("detach link", pin)?;
    remove_file(pin).pin("remove pin", pin)
}

/// One program's place: where it goes and where its link is pinned.
#[derive(Debug)]
pub(super) struct Hook<'a> {
    pub(super) program: &'static str,
    pub(super) device: &'a Link,
    pub(super) pin: PathBuf,
    /// Which way frames go that a TC program sees.
    pub(super) way: TcAttachType,
}

impl Hook<'_> {
    /// [`Self::attach_tc`] for a device that must not be up without its program: one that was is
    /// taken down first, and left so. Frames that passed nobody's checks never reach the stack.
    pub(super) async fn attach_guard(
        self,
        netlink: &Netlink,
        program: &mut SchedClassifier,
        undo: &mut Undo,
    ) -> Result<(), DatapathError> {
        if !self.is_in_place()? {
            let Link { ifindex, name, .. } = self.device;
            netlink.set_down(*ifindex, name).await?;
            undo.guarded.push((*ifindex, name.clone()));
        }
        self.attach_tc(program, undo)
    }

    /// Whether the pinned link is there and on the device.
    fn is_in_place(&self) -> Result<bool, DatapathError> {
        let Some(link) = PinnedLink::open(&self.pin).pin("open pinned link", &self.pin)? else {
            return Ok(false);
        };
        let info = link.info().pin("query pinned link", &self.pin)?;
        Ok(info.ifindex == self.device.ifindex)
    }

    /// Attaches to TCX: by replacing the program of the pinned link, if that is on the
    /// device, else by a new link, which is pinned.
    pub(super) fn attach_tc(
        self,
        program: &mut SchedClassifier,
        undo: &mut Undo,
    ) -> Result<(), DatapathError> {
        if let Some(link) = PinnedLink::open(&self.pin).pin("open pinned link", &self.pin)? {
            let info = link.info().pin("query pinned link", &self.pin)?;
            if info.ifindex == self.device.ifindex {
                let link = self
                    .link()?
                    .try_into()
                    .map_err(|e: LinkError| self.failed(e))?;
                let id = program.attach_to_link(link).map_err(|e| self.failed(e))?;
                undo.replaced = true;
                // The pin holds the link; this only closes the descriptor.
                drop(program.take_link(id).map_err(|e| self.failed(e))?);
                return Ok(());
            }
            unpin(&link, &self.pin)?;
        }
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program
            .attach_with_options(&self.device.name, self.way, options)
            .map_err(|e| self.failed(e))?;
        let link = program.take_link(id).map_err(|e| self.failed(e))?;
        let link = link.try_into().map_err(|e: LinkError| self.failed(e))?;
        self.keep(link, undo)
    }

    /// Replaces the XDP program of the pinned link.
    pub(super) fn replace_xdp(self, program: &mut Xdp) -> Result<(), DatapathError> {
        let link = self
            .link()?
            .try_into()
            .map_err(|e: LinkError| self.failed(e))?;
        let id = program.attach_to_link(link).map_err(|e| self.failed(e))?;
        drop(program.take_link(id).map_err(|e| self.failed(e))?);
        Ok(())
    }

    /// Pins a fresh XDP link.
    pub(super) fn keep_xdp(
        self,
        program: &mut Xdp,
        id: XdpLinkId,
        undo: &mut Undo,
    ) -> Result<(), DatapathError> {
        let link = program.take_link(id).map_err(|e| self.failed(e))?;
        let link = link.try_into().map_err(|e: LinkError| self.failed(e))?;
        self.keep(link, undo)
    }

    /// Pins a fresh link, so that it outlives us.
    fn keep(self, link: FdLink, undo: &mut Undo) -> Result<(), DatapathError> {
        link.pin(&self.pin)
            .map_err(pin_error)
            .pin("pin link", &self.pin)?;
        undo.links.push(self.pin);
        Ok(())
    }

    /// The pinned link, in aya's terms.
    fn link(&self) -> Result<FdLink, DatapathError> {
        links::PinnedLink::from_pin(&self.pin)
            .map(FdLink::from)
            .map_err(|e| self.failed(e))
    }

    /// That aya or the kernel refused to attach.
    pub(super) fn failed(
        &self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> DatapathError {
        DatapathError::Attach {
            program: self.program,
            device: self.device.name.clone(),
            source: Box::new(source),
        }
    }
}

fn pin_error(error: PinError) -> io::Error {
    match error {
        PinError::SyscallError(SyscallError { io_error, .. }) => io_error,
        error @ (PinError::NoFd { .. } | PinError::InvalidPinPath { .. }) => {
            io::Error::other(error)
        }
    }
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
