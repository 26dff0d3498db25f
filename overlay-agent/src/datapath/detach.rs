//! Removing every trace.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use super::attach;
use super::error::{DatapathError, PinContext as _};
use super::paths::{self, Paths};
use super::sys::PinnedLink;
use crate::host::netlink::NetlinkError;
use crate::host::{Netlink, Owner, endpoint, fallback, group, headroom, nexthop, service};

/// What came of a removal.
#[derive(Debug, Default)]
pub struct Detached {
    /// What was removed, a line each.
    pub removed: Vec<String>,
    /// What could not be removed.
    pub errors: Vec<DatapathError>,
}

impl Detached {
    /// Keeps what was removed or why not, and goes on.
    fn note<E: Into<DatapathError>>(&mut self, result: Result<Option<String>, E>) {
        match result {
            Ok(removed) => self.removed.extend(removed),
            Err(error) => self.errors.push(error.into()),
        }
    }
}

/// Removes the data path of this directory: programs, devices, memberships,
/// neighbour entries, maps and pins.
/// Goes on after an error; what is not there is none.
///
/// Has to be called on a tokio runtime, in the network namespace of the underlay.
pub async fn detach_all(paths: &Paths) -> Detached {
    let mut detached = Detached::default();
    // Devices first: what comes out of a container or a tunnel is not to meet a device that has
    // lost its program.
    match Netlink::open() {
        Ok(netlink) => remove_devices(&netlink, paths, &mut detached).await,
        Err(error) => detached.errors.push(error.into()),
    }
    remove_links(paths, &mut detached);
    for name in names(paths.bpffs(), &mut detached) {
        if name.to_str().is_some_and(paths::is_version) {
            let removed = remove_maps(&paths.bpffs().join(name));
            detached.note(removed.map(Some));
        }
    }
    detached.note(remove_directory(&paths.links()).map(|()| None));
    // Made by us, or by whoever mounted it there.
    detached.note(remove_directory(paths.bpffs()).map(|()| None));
    detached
}

/// Removes the programs from their devices. Maps and devices stay, those of endpoints and the
/// fallback device down: until the next data path is attached, no container has a network, and
/// the underlay is as if there were no data path.
///
/// Has to be called as [`detach_all`].
pub async fn detach_programs(paths: &Paths) -> Detached {
    let mut detached = Detached::default();
    match close_devices(paths).await {
        Ok(()) => remove_links(paths, &mut detached),
        // A program is worth more where it is than gone from a device that is up.
        Err(error) => detached.errors.push(error.into()),
    }
    detached
}

async fn close_devices(paths: &Paths) -> Result<(), NetlinkError> {
    let netlink = Netlink::open()?;
    let owner = Owner::new(paths.bpffs());
    for (_, link) in endpoint::list(&netlink, &owner).await? {
        netlink.set_down(link.ifindex, &link.name).await?;
    }
    group::leave_all(&netlink).await?;
    fallback::close(&netlink, &owner).await
}

fn remove_links(paths: &Paths, detached: &mut Detached) {
    let mut names = names(&paths.links(), detached);
    // XDP first: what it hands over is for a program that is still there.
    names.sort_by_key(|name| name != paths::UNDERLAY_XDP);
    for name in names {
        let pin = paths.links().join(&name);
        let removed = PinnedLink::open(&pin)
            .pin("open pinned link", &pin)
            .and_then(|link| match link {
                Some(link) => {
                    attach::unpin(&link, &pin)?;
                    Ok(Some(format!("program {}", name.to_string_lossy())))
                }
                None => Ok(None),
            });
        detached.note(removed);
    }
}

async fn remove_devices(netlink: &Netlink, paths: &Paths, detached: &mut Detached) {
    let owner = Owner::new(paths.bpffs());
    match endpoint::list(netlink, &owner).await {
        Ok(endpoints) => {
            for (id, link) in endpoints {
                let removed = netlink.delete_link(link.ifindex).await;
                detached.note(removed.map(|removed| {
                    removed.then(|| format!("device {} of endpoint {id}", link.name))
                }));
            }
        }
        Err(error) => detached.errors.push(error.into()),
    }
    let removed = service::remove(netlink, &owner).await;
    detached.note(
        removed.map(|removed| removed.then(|| format!("device {}", service::SERVICE_DEVICE))),
    );
    let removed = fallback::remove(netlink, &owner).await;
    detached.note(
        removed.map(|removed| removed.then(|| format!("device {}", fallback::FALLBACK_DEVICE))),
    );
    let removed = headroom::remove(netlink, &owner).await;
    detached.note(
        removed.map(|removed| removed.then(|| format!("device {}", headroom::HEADROOM_DEVICE))),
    );
    let left = group::leave_all(netlink).await;
    detached.note(left.map(|count| (count > 0).then(|| format!("{count} group memberships"))));
    let released = nexthop::release_all(netlink).await;
    detached.note(
        released.map(|count| (count > 0).then(|| format!("{count} managed neighbour entries"))),
    );
}

/// Removes the maps of other versions, which nothing uses once the links have programs of this
/// one.
pub(super) fn remove_other_versions(paths: &Paths) -> Result<(), DatapathError> {
    let mut found = Detached::default();
    for name in names(paths.bpffs(), &mut found) {
        let directory = paths.bpffs().join(&name);
        if name.to_str().is_some_and(paths::is_version) && directory != paths.version() {
            remove_maps(&directory)?;
        }
    }
    found.errors.into_iter().next().map_or(Ok(()), Err)
}

/// Removes the maps of one version; what was removed.
fn remove_maps(version: &Path) -> Result<String, DatapathError> {
    let directory = version.join("maps");
    let mut found = Detached::default();
    let names = names(&directory, &mut found);
    for name in &names {
        let pin = directory.join(name);
        attach::remove_file(&pin).pin("remove pin", &pin)?;
    }
    if let Some(error) = found.errors.into_iter().next() {
        return Err(error);
    }
    remove_directory(&directory)?;
    remove_directory(version)?;
    Ok(format!("{} maps in {}", names.len(), version.display()))
}

/// Names in a directory; none when it is not there.
fn names(directory: &Path, detached: &mut Detached) -> Vec<OsString> {
    let listed = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()
    });
    match listed {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            detached.note(Err(error).pin("list", directory));
            Vec::new()
        }
    }
}

/// Removes a directory unless somebody keeps something in it or has mounted it.
fn remove_directory(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_dir(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        other => other.pin("remove directory", path),
    }
}
