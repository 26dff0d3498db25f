//! Managed neighbour entries: `NTF_EXT_MANAGED` (Linux 5.16) has the kernel resolve an entry and
//! keep it resolved. They outlive the agent like the data path that needs them, and carry our
//! protocol number so that a later run knows them again.

use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;

use super::super::netlink::{Attempt as _, Netlink, NetlinkError, is_absent};
use super::mirror::{NeighborKey, PROTOCOL};
use super::query;

/// Has the kernel resolve an entry and keep it. An address that it already has stays.
pub(super) async fn mark(netlink: &Netlink, key: NeighborKey) -> Result<(), NetlinkError> {
    let (ifindex, ip) = key;
    let mut request = netlink
        .handle
        .neighbours()
        .add(ifindex, ip)
        .state(NeighbourState::None)
        .replace();
    request.message_mut().attributes.extend([
        NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
        NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
    ]);
    request
        .execute()
        .await
        .attempt(|| format!("keep neighbour {ip} on device {ifindex} resolved"))
}

/// Removes an entry of ours; whoever still needs it resolves it anew.
pub(super) async fn release(netlink: &Netlink, key: NeighborKey) -> Result<(), NetlinkError> {
    let (ifindex, ip) = key;
    // The delete request takes a whole message, and only the add request makes one.
    let mut entry = netlink.handle.neighbours().add(ifindex, ip);
    let message: NeighbourMessage = entry.message_mut().clone();
    match netlink.handle.neighbours().del(message).execute().await {
        Ok(()) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(error).attempt(|| format!("release neighbour {ip} on device {ifindex}")),
    }
}

/// Removes every entry of ours.
///
/// Returns how many there were.
pub async fn release_all(netlink: &Netlink) -> Result<usize, NetlinkError> {
    let mut released = 0;
    for (key, neighbor) in query::neighbors(netlink).await? {
        if neighbor.ours {
            release(netlink, key).await?;
            released += 1;
        }
    }
    Ok(released)
}
