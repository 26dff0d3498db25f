//! Room in front of what containers send.
//!
//! A packet without room for the outer headers is copied to another buffer when it gets them, a third of what
//! encapsulation costs. A veth reserves what its bridge wants, and a bridge wants what its ports need
//! (`br_add_if` in `net/bridge/br_if.c`); netlink has no other way to ask for it. So there is a bridge that
//! never forwards: it stays down, and drops what a port without a program would pass to it. Its ports are
//! the fallback device, for the length of the outer headers, and the host sides of endpoints.

use rtnetlink::{LinkBridge, LinkUnspec};

use super::Owner;
use super::fallback::FALLBACK_DEVICE;
use super::link::Link;
use super::netlink::{Attempt as _, Netlink, NetlinkError};

pub const HEADROOM_DEVICE: &str = "ovh0";

/// Finds our bridge or makes it. Its ifindex; `None` when another device has its name.
pub async fn ensure(netlink: &Netlink, owner: &Owner) -> Result<Option<u32>, NetlinkError> {
    let bridge = match netlink.link(HEADROOM_DEVICE).await? {
        Some(link) if !owner.is_headroom(link.alias.as_deref()) => return Ok(None),
        Some(link) => link,
        None => match create(netlink, owner).await? {
            Some(link) => link,
            None => return Ok(None),
        },
    };
    netlink.set_down(bridge.ifindex, HEADROOM_DEVICE).await?;
    if let Some(fallback) = netlink.link(FALLBACK_DEVICE).await? {
        give(netlink, bridge.ifindex, &fallback).await?;
    }
    Ok(Some(bridge.ifindex))
}

async fn create(netlink: &Netlink, owner: &Owner) -> Result<Option<Link>, NetlinkError> {
    let message = LinkBridge::new(HEADROOM_DEVICE).build();
    let added = netlink.handle.link().add(message).execute().await;
    added.attempt(|| format!("create bridge {HEADROOM_DEVICE}"))?;
    let Some(link) = netlink.link(HEADROOM_DEVICE).await? else {
        return Ok(None);
    };
    let alias = owner.headroom_alias();
    if let Err(error) = netlink.mark(link.ifindex, HEADROOM_DEVICE, &alias).await {
        // The first error is the one that matters.
        let _ = netlink.delete_link(link.ifindex).await;
        return Err(error);
    }
    Ok(Some(link))
}

/// Makes a device reserve room. The kernel has 1023 ports for a bridge.
pub async fn give(netlink: &Netlink, bridge: u32, link: &Link) -> Result<(), NetlinkError> {
    if link.controller == Some(bridge) {
        return Ok(());
    }
    let message = LinkUnspec::new_with_index(link.ifindex)
        .controller(bridge)
        .build();
    netlink
        .set_link(message, || {
            format!("make device {} reserve room for outer headers", link.name)
        })
        .await
}

/// Removes our bridge. Returns whether it was there.
pub async fn remove(netlink: &Netlink, owner: &Owner) -> Result<bool, NetlinkError> {
    match netlink.link(HEADROOM_DEVICE).await? {
        Some(link) if owner.is_headroom(link.alias.as_deref()) => {
            netlink.delete_link(link.ifindex).await
        }
        Some(_) | None => Ok(false),
    }
}
