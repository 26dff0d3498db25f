//! Changing the MTU of an endpoint's veth pair, both ends.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::Owner;
use super::endpoint::{EndpointError, ours};
use super::link::FarEnd;
use super::netlink::{Attempt as _, Netlink, NetlinkError};
use super::netns::Netns;

/// Where namespaces have names: those of `ip netns`, of Docker, of CNI runtimes.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Largest MTU of a device (`IP_MAX_MTU` of the kernel).
const LARGEST: u32 = 65_535;
/// How much larger than an endpoint's the MTU of its host side is.
const MARGIN: u32 = 32_768;

/// MTU of the host side of an endpoint whose own is `mtu`. The kernel drops what is larger without a
/// word, before a program sees it and can tell the sender what fits. That it still follows from the
/// endpoint's says whether that has been set.
pub(super) const fn host_side(mtu: u32) -> u32 {
    let wanted = mtu.saturating_add(MARGIN);
    if wanted < LARGEST { wanted } else { LARGEST }
}

/// Gives an endpoint an MTU in bytes. Its own end goes first.
///
/// Returns whether it was another; `false` also when the device is gone.
///
/// # Errors
/// Then the host side has its old MTU, so that another attempt is made in full.
pub async fn set(
    netlink: &Netlink,
    owner: &Owner,
    device: &str,
    mtu: u32,
) -> Result<bool, EndpointError> {
    let Some(link) = ours(netlink, owner, device).await? else {
        return Ok(false);
    };
    // At the limit it says nothing.
    if link.mtu == host_side(mtu) && link.mtu != LARGEST {
        return Ok(false);
    }
    let missing = || EndpointError::NoNamespace(device.to_owned());
    let far_end = link.far_end.ok_or_else(missing)?;
    let netns = behind(netlink, far_end).await?.ok_or_else(missing)?;
    let inside = netns.netlink()?;
    let name = format!("{device} in the container");
    inside.set_mtu(far_end.ifindex, &name, mtu).await?;
    netlink
        .set_mtu(link.ifindex, device, host_side(mtu))
        .await?;
    Ok(true)
}

/// The namespace of a device's other end. The kernel tells its number only, so that it is looked
/// for among those that have a name or a process.
async fn behind(netlink: &Netlink, far_end: FarEnd) -> Result<Option<Netns>, NetlinkError> {
    for path in candidates() {
        // Gone meanwhile, or our own.
        let Ok(netns) = Netns::open(&path) else {
            continue;
        };
        if netlink.netnsid(&netns).await? == Some(far_end.netnsid) {
            return Ok(Some(netns));
        }
    }
    Ok(None)
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    let named = NAMED.iter().flat_map(|folder| entries(Path::new(folder)));
    let is_pid = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = entries(Path::new("/proc"))
        .filter(move |path| path.file_name().is_some_and(is_pid))
        .map(|path| path.join("ns/net"));
    named.chain(processes)
}

/// Nothing for a folder that is not there.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

impl Netlink {
    /// What this namespace calls another one; `None` when it has no name for it.
    async fn netnsid(&self, netns: &Netns) -> Result<Option<i32>, NetlinkError> {
        let mut message = NsidMessage::default();
        let fd = netns.file.as_raw_fd().unsigned_abs();
        message.attributes.push(NsidAttribute::Fd(fd));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST;
        let mut handle = self.handle.clone();
        let action = || "ask for the number of a network namespace".to_owned();
        let mut answers = handle.request(request).attempt(action)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(found)) => {
                    let id = found
                        .attributes
                        .iter()
                        .find_map(|attribute| match attribute {
                            NsidAttribute::Id(id) => Some(*id),
                            _ => None,
                        });
                    return Ok(id.filter(|id| *id >= 0));
                }
                NetlinkPayload::Error(error) => {
                    return Err(rtnetlink::Error::NetlinkError(error)).attempt(action);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
