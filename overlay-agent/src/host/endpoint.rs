//! An endpoint's veth pair: one side on the host, the other in the container.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use ipnet::IpNet;
use overlay_common::net::MacAddr;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use thiserror::Error;

use super::Owner;
use super::link::Link;
use super::mtu;
use super::netlink::{Attempt as _, Netlink, NetlinkError};
use super::netns::Netns;
pub use super::netns::NetnsError;
pub use super::routes::Route;

/// Longest device name: `IFNAMSIZ` with its terminating zero.
const NAME_MAX: usize = 15;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct NewEndpoint<'a> {
    /// Name of the host side.
    pub device: &'a str,
    /// The endpoint's id, kept in the host side's alias.
    pub id: &'a str,
    /// The container's network namespace.
    pub netns: &'a Path,
    /// Name of the container side.
    pub ifname: &'a str,
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Addresses with the prefix lengths of their subnets.
    pub addresses: &'a [IpNet],
    pub routes: &'a [Route],
}

#[derive(Debug, Error)]
pub enum EndpointError {
    #[error(
        "`{0}` cannot be an interface name: 1 to {NAME_MAX} bytes without `/`, `:` or spaces are \
         wanted"
    )]
    Name(String),
    #[error("`{0}` cannot be an endpoint's MAC address: it is a group address or zero")]
    Mac(MacAddr),
    #[error("`{0}` cannot be an endpoint's address: one host's address with a prefix is wanted")]
    Address(IpNet),
    #[error("interface name {0} is taken in the container: choose another with --ifname")]
    InterfaceTaken(String),
    #[error("device name {0} is taken on this host")]
    DeviceTaken(String),
    #[error("device {device} is not ours (alias: {}): it is left alone", alias.as_deref().unwrap_or("none"))]
    NotOurs {
        device: String,
        alias: Option<String>,
    },
    #[error("the network namespace behind device {0} was not found")]
    NoNamespace(String),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Makes the pair and configures both ends. The container's end is up, the host side is down
/// ([`open`]): no frame gets out of the container before there is a program to judge it. On an
/// error nothing is left.
///
/// Returns the ifindex of the host side.
pub async fn create(
    netlink: &Netlink,
    owner: &Owner,
    new: &NewEndpoint<'_>,
) -> Result<u32, EndpointError> {
    validate(new)?;
    let netns = Netns::open(new.netns)?;
    if netlink.link(new.device).await?.is_some() {
        return Err(EndpointError::DeviceTaken(new.device.to_owned()));
    }
    create_pair(netlink, new, &netns).await?;
    let link = netlink.link(new.device).await?;
    let Some(Link { ifindex, .. }) = link else {
        // Whoever removed it has removed the container side with it.
        return Err(EndpointError::DeviceTaken(new.device.to_owned()));
    };
    match configure(netlink, owner, new, &netns, ifindex).await {
        Ok(()) => Ok(ifindex),
        Err(error) => {
            // Removes both sides. The first error is the one that matters.
            let _ = netlink.delete_link(ifindex).await;
            Err(error)
        }
    }
}

/// What to make of an endpoint whose other end somebody else puts into the container.
#[derive(Clone, Copy, Debug)]
pub struct LooseEndpoint<'a> {
    /// Name of the host side.
    pub device: &'a str,
    /// The endpoint's id, kept in the host side's alias.
    pub id: &'a str,
    /// Name of the container side, on this host until it is moved.
    pub peer: &'a str,
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u32,
}

/// Makes the pair with both ends on this host, down, and the container's without addresses: whoever
/// moves it into the container gives it those, and brings it up there. On an error nothing is left.
pub async fn create_loose(
    netlink: &Netlink,
    owner: &Owner,
    new: &LooseEndpoint<'_>,
) -> Result<(), EndpointError> {
    for device in [new.device, new.peer] {
        if !is_device_name(device) {
            return Err(EndpointError::Name(device.to_owned()));
        }
        if netlink.link(device).await?.is_some() {
            return Err(EndpointError::DeviceTaken(device.to_owned()));
        }
    }
    if new.mac.is_multicast() || new.mac.is_zero() {
        return Err(EndpointError::Mac(new.mac));
    }
    let container = LinkMessageBuilder::<LinkUnspec>::new()
        .name(new.peer)
        .address(new.mac.0.to_vec())
        .mtu(new.mtu)
        .build();
    add_pair(netlink, new.device, new.mtu, container)
        .await
        .attempt(|| format!("create veth pair {} and {}", new.device, new.peer))?;
    let Some(link) = netlink.link(new.device).await? else {
        return Err(EndpointError::DeviceTaken(new.device.to_owned()));
    };
    let alias = owner.endpoint_alias(new.id);
    if let Err(error) = netlink.mark(link.ifindex, new.device, &alias).await {
        // Removes both sides. The first error is the one that matters.
        let _ = netlink.delete_link(link.ifindex).await;
        return Err(error.into());
    }
    Ok(())
}

pub(super) async fn add_pair(
    netlink: &Netlink,
    device: &str,
    mtu: u32,
    container: LinkMessage,
) -> Result<(), rtnetlink::Error> {
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(device)
        .mtu(mtu::host_side(mtu))
        .set_info_data(InfoData::Veth(InfoVeth::Peer(container)))
        .build();
    netlink.handle.link().add(pair).execute().await
}

/// Brings the host side up: from now on the container has a carrier.
pub async fn open(netlink: &Netlink, ifindex: u32, device: &str) -> Result<(), NetlinkError> {
    netlink.set_up(ifindex, device).await
}

/// Takes the host side down: from now on nothing comes out of the container. Returns whether the
/// device was there.
pub async fn close(netlink: &Netlink, owner: &Owner, device: &str) -> Result<bool, EndpointError> {
    match ours(netlink, owner, device).await? {
        Some(link) => Ok(netlink.set_down(link.ifindex, &link.name).await?),
        None => Ok(false),
    }
}

/// Removes an endpoint's pair by the name of its host side. Returns whether it was there.
pub async fn remove(netlink: &Netlink, owner: &Owner, device: &str) -> Result<bool, EndpointError> {
    match ours(netlink, owner, device).await? {
        Some(link) => Ok(netlink.delete_link(link.ifindex).await?),
        None => Ok(false),
    }
}

/// An endpoint's host side; `None` when it is gone.
pub(super) async fn ours(
    netlink: &Netlink,
    owner: &Owner,
    device: &str,
) -> Result<Option<Link>, EndpointError> {
    match netlink.link(device).await? {
        Some(link) if owner.endpoint(link.alias.as_deref()).is_none() => {
            Err(EndpointError::NotOurs {
                device: link.name,
                alias: link.alias,
            })
        }
        other => Ok(other),
    }
}

/// The host sides of this data path's endpoints, with the endpoints' ids.
pub async fn list(netlink: &Netlink, owner: &Owner) -> Result<Vec<(String, Link)>, NetlinkError> {
    let links = netlink.links().await?;
    Ok(links
        .into_iter()
        .filter_map(|link| {
            let id = owner.endpoint(link.alias.as_deref())?.to_owned();
            Some((id, link))
        })
        .collect())
}

/// The container side is born in its namespace under its final name: there is no moment at which
/// it could be seen, or be left behind, elsewhere.
async fn create_pair(
    netlink: &Netlink,
    new: &NewEndpoint<'_>,
    netns: &Netns,
) -> Result<(), EndpointError> {
    let container = LinkMessageBuilder::<LinkUnspec>::new()
        .name(new.ifname)
        .address(new.mac.0.to_vec())
        .mtu(new.mtu)
        .setns_by_fd(netns.file.as_raw_fd())
        .build();
    let added = add_pair(netlink, new.device, new.mtu, container)
        .await
        .attempt(|| {
            format!(
                "create veth pair {} and {} in {}",
                new.device,
                new.ifname,
                new.netns.display()
            )
        });
    match added {
        // The host's name was free a moment ago.
        Err(error) if error.errno() == Some(libc::EEXIST) => {
            Err(EndpointError::InterfaceTaken(new.ifname.to_owned()))
        }
        other => Ok(other?),
    }
}

async fn configure(
    netlink: &Netlink,
    owner: &Owner,
    new: &NewEndpoint<'_>,
    netns: &Netns,
    ifindex: u32,
) -> Result<(), EndpointError> {
    netlink
        .mark(ifindex, new.device, &owner.endpoint_alias(new.id))
        .await?;
    let inside = netns.netlink()?;
    let Some(container) = inside.link(new.ifname).await? else {
        return Err(EndpointError::InterfaceTaken(new.ifname.to_owned()));
    };
    for address in new.addresses {
        let mut request =
            inside
                .handle
                .address()
                .add(container.ifindex, address.addr(), address.prefix_len());
        // The address was given out once: nobody else has it, and waiting for the proof delays
        // the container by a second.
        if matches!(address, IpNet::V6(_)) {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request
            .execute()
            .await
            .attempt(|| format!("give {address} to {} in the container", new.ifname))?;
    }
    inside.set_up(container.ifindex, new.ifname).await?;
    Ok(inside.add_routes(container.ifindex, new.routes).await?)
}

fn validate(new: &NewEndpoint<'_>) -> Result<(), EndpointError> {
    for name in [new.device, new.ifname] {
        if !is_device_name(name) {
            return Err(EndpointError::Name(name.to_owned()));
        }
    }
    if new.mac.is_multicast() || new.mac.is_zero() {
        return Err(EndpointError::Mac(new.mac));
    }
    match new.addresses.iter().find(|address| !is_host(address)) {
        Some(address) => Err(EndpointError::Address(*address)),
        None => Ok(()),
    }
}

/// `dev_valid_name` of the kernel.
fn is_device_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= NAME_MAX
        && !name.bytes().any(|byte| {
            byte.is_ascii_whitespace() || byte == 0x0b || matches!(byte, b'/' | b':' | 0)
        })
}

fn is_host(address: &IpNet) -> bool {
    let ip = address.addr();
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return false;
    }
    match address {
        IpNet::V4(net) => {
            net.prefix_len() >= 31 || (net.addr() != net.network() && net.addr() != net.broadcast())
        }
        // The subnet-router anycast address (RFC 4291, section 2.6.1) is no host's.
        IpNet::V6(net) => net.prefix_len() >= 127 || net.addr() != net.network(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["eth0", "a", "ov123456789abcd", "é"] {
            assert!(is_device_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "ov123456789abcde",
            "a\0",
        ] {
            assert!(!is_device_name(name), "{name:?}");
        }
    }

    #[test]
    fn addresses() {
        for address in [
            "10.0.0.1/24",
            "10.0.0.0/31",
            "10.0.0.7/32",
            "fd00::1/64",
            "fd00::/128",
        ] {
            assert!(is_host(&address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0/0",
            "10.0.0.0/24",
            "10.0.0.255/24",
            "224.0.0.1/24",
            "127.0.0.1/8",
            "::/64",
            "fd00::/64",
            "ff02::1/64",
            "::1/128",
        ] {
            assert!(!is_host(&address.parse().unwrap()), "{address}");
        }
    }
}
