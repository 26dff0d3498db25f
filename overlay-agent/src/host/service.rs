//! The way from endpoints to the agent: a veth pair whose host side the programs know, and whose other end
//! is in a namespace of the agent's own, at the service address. Both go with the agent, however it ends.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;

use overlay_common::decide::service::SERVICE_IP;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use thiserror::Error;

use super::Owner;
use super::endpoint::add_pair;
use super::fallback::FALLBACK_DEVICE;
use super::link::Link;
use super::netlink::{Attempt as _, Netlink, NetlinkError, errno};
use super::netns::{Netns, NetnsError};

/// What endpoints ask at.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::from_octets(SERVICE_IP);

pub const SERVICE_DEVICE: &str = "ovdns0";

/// Of name servers.
const PORT: u16 = 53;

/// Its other end.
const INSIDE: &str = "dns0";

/// In bytes; no endpoint takes less (RFC 791 and RFC 8200 have 576 and 1280).
const MTU: u32 = 1280;

#[derive(Debug, Error)]
pub enum ServiceError {
    #[error(
        "a device named {SERVICE_DEVICE} is there that this data path has not made (alias: {}): \
         rename or remove it, or detach the data path it belongs to",
        alias.as_deref().unwrap_or("none")
    )]
    Foreign { alias: Option<String> },
    #[error("device {SERVICE_DEVICE} was removed as soon as it was made")]
    Gone,
    #[error("listen on {ADDRESS}:{PORT}")]
    Listen(#[source] io::Error),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The way. It goes with this value and the sockets at its end.
#[derive(Debug)]
pub struct Service {
    /// Of the host side.
    pub ifindex: u32,
    _netns: Netns,
}

/// Where questions arrive, not blocking.
#[derive(Debug)]
pub struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

impl Sockets {
    /// In the calling thread's namespace, which has to have the address.
    pub fn listen() -> Result<Self, ServiceError> {
        let listen = || {
            let address = SocketAddrV4::new(ADDRESS, PORT);
            let (udp, tcp) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok(Self { udp, tcp })
        };
        listen().map_err(ServiceError::Listen)
    }
}

/// Makes the way anew, its host side down: no frame gets out of it before there is a program to judge it.
///
/// Has to be called on a tokio runtime.
pub async fn create(netlink: &Netlink, owner: &Owner) -> Result<(Service, Sockets), ServiceError> {
    // The kernel takes its time to remove what an agent has left that was killed.
    remove(netlink, owner).await?;
    if let Some(link) = netlink.link(SERVICE_DEVICE).await? {
        return Err(ServiceError::Foreign { alias: link.alias });
    }
    let netns = Netns::make()?;
    let inside = LinkMessageBuilder::<LinkUnspec>::new()
        .name(INSIDE)
        .mtu(MTU)
        .setns_by_fd(netns.file.as_raw_fd())
        .build();
    add_pair(netlink, SERVICE_DEVICE, MTU, inside)
        .await
        .attempt(|| format!("create veth pair {SERVICE_DEVICE} and {INSIDE}"))?;
    let link = netlink.link(SERVICE_DEVICE).await?;
    let ifindex = link.ok_or(ServiceError::Gone)?.ifindex;
    let alias = owner.service_alias();
    netlink.mark(ifindex, SERVICE_DEVICE, &alias).await?;
    configure(&netns.netlink()?).await?;
    let sockets = netns.enter(Sockets::listen)??;
    let service = Service {
        ifindex,
        _netns: netns,
    };
    Ok((service, sockets))
}

/// Everything is behind the device, and no neighbour is asked for: the programs write the MACs.
async fn configure(inside: &Netlink) -> Result<(), ServiceError> {
    let link = inside.link(INSIDE).await?.ok_or(ServiceError::Gone)?;
    let address = inside
        .handle
        .address()
        .add(link.ifindex, ADDRESS.into(), 32);
    let added = address.execute().await;
    added.attempt(|| format!("give {ADDRESS} to {INSIDE}"))?;
    let up = LinkUnspec::new_with_index(link.ifindex).arp(false).up();
    inside
        .set_link(up.build(), || format!("bring device {INSIDE} up"))
        .await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .output_interface(link.ifindex)
        .scope(RouteScope::Link)
        .build();
    let added = inside.handle.route().add(route).execute().await;
    Ok(added.attempt(|| format!("add the default route through {INSIDE}"))?)
}

/// Removes our device. Returns whether it was there.
pub async fn remove(netlink: &Netlink, owner: &Owner) -> Result<bool, NetlinkError> {
    match netlink.link(SERVICE_DEVICE).await? {
        Some(Link { ifindex, alias, .. }) if owner.is_service(alias.as_deref()) => {
            netlink.delete_link(ifindex).await
        }
        Some(_) | None => Ok(false),
    }
}

/// Gives this host the address, or takes it away, for containers that reach the host by its other networks. It
/// is on the fallback device and so outlives the agent: what is asked without one is refused at once.
pub async fn on_host(netlink: &Netlink, fallback: u32, wanted: bool) -> Result<(), ServiceError> {
    let address = netlink.handle.address();
    let mut add = address.add(fallback, ADDRESS.into(), 32);
    // No source of packets to anybody else.
    add.message_mut().header.scope = AddressScope::Host;
    let done = if wanted {
        add.execute().await
    } else {
        address.del(add.message_mut().clone()).execute().await
    };
    match done {
        Err(error) if matches!(errno(&error), Some(libc::EEXIST | libc::EADDRNOTAVAIL)) => Ok(()),
        other => Ok(other.attempt(|| {
            let way = if wanted { "give" } else { "take" };
            format!("{way} {ADDRESS} on device {FALLBACK_DEVICE}")
        })?),
    }
}
