//! Membership in the underlay's multicast groups, kept by the kernel: an address that joins by
//! itself (`ip address add GROUP dev DEVICE autojoin`, Linux 4.1) stays when the agent is gone,
//! and so do the IGMP and MLD reports. Ours carry our protocol number (Linux 5.18), as
//! `ip -d address` shows it, and no others are touched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope,
};

use super::netlink::{Attempt as _, Netlink, NetlinkError, errno, is_absent};

/// Who made the address: the number that our neighbour entries carry, too.
const PROTOCOL: u8 = 0xd7;

/// A membership of ours: device and group.
type Membership = (u32, IpAddr);

/// Makes this host a member of these groups on the device, and of no others by us.
pub async fn set(
    netlink: &Netlink,
    ifindex: u32,
    groups: &BTreeSet<IpAddr>,
) -> Result<(), NetlinkError> {
    let wanted: BTreeSet<Membership> = groups.iter().map(|group| (ifindex, *group)).collect();
    let actual = ours(netlink).await?;
    let present: BTreeSet<Membership> = actual.iter().filter_map(membership).collect();
    for (ifindex, group) in wanted.difference(&present) {
        join(netlink, *ifindex, *group).await?;
    }
    for message in actual {
        if membership(&message).is_none_or(|membership| !wanted.contains(&membership)) {
            leave(netlink, message).await?;
        }
    }
    Ok(())
}

/// Leaves every group that we have joined.
///
/// Returns how many there were.
pub async fn leave_all(netlink: &Netlink) -> Result<usize, NetlinkError> {
    let ours = ours(netlink).await?;
    let count = ours.len();
    for message in ours {
        leave(netlink, message).await?;
    }
    Ok(count)
}

async fn join(netlink: &Netlink, ifindex: u32, group: IpAddr) -> Result<(), NetlinkError> {
    let whole = if group.is_ipv4() { 32 } else { 128 };
    let mut request = netlink.handle.address().add(ifindex, group, whole);
    let message = request.message_mut();
    // Of no use as a source address, and no duplicate of another member's.
    message.header.scope = AddressScope::Host;
    // The request leaves a group's address out.
    message.attributes = vec![
        AddressAttribute::Address(group),
        AddressAttribute::Local(group),
        AddressAttribute::Flags(AddressFlags::Mcautojoin | AddressFlags::Nodad),
        AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)),
    ];
    match request.execute().await {
        // An administrator's.
        Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
        other => other.attempt(|| format!("join group {group} on device {ifindex}")),
    }
}

async fn leave(netlink: &Netlink, message: AddressMessage) -> Result<(), NetlinkError> {
    let (ifindex, group) = membership(&message).unzip();
    match netlink.handle.address().del(message).execute().await {
        Ok(()) => Ok(()),
        Err(error) if is_absent(&error) || errno(&error) == Some(libc::EADDRNOTAVAIL) => Ok(()),
        Err(error) => Err(error).attempt(|| format!("leave group {group:?} on device {ifindex:?}")),
    }
}

/// The addresses that we have made.
async fn ours(netlink: &Netlink) -> Result<Vec<AddressMessage>, NetlinkError> {
    let all: Vec<_> = netlink
        .handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .attempt(|| "list the addresses".to_owned())?;
    Ok(all.into_iter().filter(is_ours).collect())
}

fn is_ours(message: &AddressMessage) -> bool {
    let mark = AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL));
    message.attributes.contains(&mark)
}

fn membership(message: &AddressMessage) -> Option<Membership> {
    let group = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })?;
    Some((message.header.index, group))
}
