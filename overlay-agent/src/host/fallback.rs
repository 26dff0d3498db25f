//! The fallback device: a vxlan device that takes every VNI and hands the tunnel over as
//! metadata. It carries what the programs cannot do, and its UDP socket is what makes the kernel
//! merge VXLAN packets (GRO) before they reach the programs.

use rtnetlink::LinkVxlan;
use thiserror::Error;

use super::Owner;
use super::link::{Link, VxlanLink};
use super::netlink::{Attempt as _, Netlink, NetlinkError};

pub const FALLBACK_DEVICE: &str = "ovx0";

/// Source ports, the range that RFC 7348, section 5 recommends.
const SOURCE_PORTS: (u16, u16) = (49152, 65535);

/// 65535 without the outer headers: what is too long is refused by the programs, not here.
const MTU: u32 = 65485;

#[derive(Debug, Error)]
pub enum FallbackError {
    #[error(
        "a device named {FALLBACK_DEVICE} is there that this data path has not made (alias: {}): \
         rename or remove it, or detach the data path it belongs to",
        alias.as_deref().unwrap_or("none")
    )]
    Foreign { alias: Option<String> },
    #[error("UDP port {port} is in use by vxlan device {device}: remove it or take another --port")]
    PortInUseByDevice { port: u16, device: String },
    #[error(
        "UDP port {port} is in use: `ss -ulnp 'sport = :{port}'` shows by whom; stop it or take \
         another --port"
    )]
    PortInUse { port: u16 },
    #[error(
        "the kernel has no vxlan devices (CONFIG_VXLAN): load the module with `modprobe vxlan`"
    )]
    Unsupported,
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The fallback device and whether this call made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub ifindex: u32,
    pub created: bool,
}

/// Finds our fallback device or makes it, down ([`open`]): no frame gets out of a tunnel before
/// there is a program to judge it. One with other settings is replaced.
pub async fn ensure(
    netlink: &Netlink,
    owner: &Owner,
    port: u16,
) -> Result<Fallback, FallbackError> {
    if let Some(link) = find(netlink, owner).await? {
        let wanted = VxlanLink {
            port,
            external: true,
            zero_checksum6: true,
        };
        if link.vxlan == Some(wanted) {
            return Ok(Fallback {
                ifindex: link.ifindex,
                created: false,
            });
        }
        netlink.delete_link(link.ifindex).await?;
    }
    let ifindex = create(netlink, port).await?;
    let alias = owner.fallback_alias();
    match netlink.mark(ifindex, FALLBACK_DEVICE, alias).await {
        Ok(()) => Ok(Fallback {
            ifindex,
            created: true,
        }),
        Err(error) => {
            // The first error is the one that matters; the device goes with the next `detach`
            // if even this fails.
            let _ = netlink.delete_link(ifindex).await;
            Err(error.into())
        }
    }
}

/// Brings the fallback device up, which opens its UDP socket. It may be up already.
pub async fn open(netlink: &Netlink, ifindex: u32, port: u16) -> Result<(), FallbackError> {
    match netlink.set_up(ifindex, FALLBACK_DEVICE).await {
        Err(error) if error.errno() == Some(libc::EADDRINUSE) => {
            Err(port_in_use(netlink, port).await?)
        }
        other => Ok(other?),
    }
}

/// Takes our fallback device down, if it is there: nothing comes out of a tunnel any more.
pub async fn close(netlink: &Netlink, owner: &Owner) -> Result<(), NetlinkError> {
    if let Some(link) = ours(netlink, owner).await? {
        netlink.set_down(link.ifindex, FALLBACK_DEVICE).await?;
    }
    Ok(())
}

/// Removes our fallback device. Returns whether it was there.
pub async fn remove(netlink: &Netlink, owner: &Owner) -> Result<bool, NetlinkError> {
    match ours(netlink, owner).await? {
        Some(link) => netlink.delete_link(link.ifindex).await,
        None => Ok(false),
    }
}

async fn ours(netlink: &Netlink, owner: &Owner) -> Result<Option<Link>, NetlinkError> {
    let link = netlink.link(FALLBACK_DEVICE).await?;
    Ok(link.filter(|link| owner.is_fallback(link.alias.as_deref())))
}

async fn find(netlink: &Netlink, owner: &Owner) -> Result<Option<Link>, FallbackError> {
    match netlink.link(FALLBACK_DEVICE).await? {
        Some(link) if owner.is_fallback(link.alias.as_deref()) => Ok(Some(link)),
        Some(link) => Err(FallbackError::Foreign { alias: link.alias }),
        None => Ok(None),
    }
}

async fn create(netlink: &Netlink, port: u16) -> Result<u32, FallbackError> {
    let (low, high) = SOURCE_PORTS;
    let message = LinkVxlan::new(FALLBACK_DEVICE, 0)
        .collect_metadata(true)
        .learning(false)
        .port(port)
        .port_range(low, high)
        // RFC 6935: a tunnel's outer UDP checksum may be zero over IPv6 as well.
        .udp_zero_csum6_rx(true)
        .mtu(MTU)
        .build();
    let added = netlink
        .handle
        .link()
        .add(message)
        .execute()
        .await
        .attempt(|| format!("create vxlan device {FALLBACK_DEVICE}"));
    if let Err(error) = added {
        return Err(match error.errno() {
            // The name is free: another device takes all VNIs of this port.
            Some(libc::EEXIST | libc::EADDRINUSE) => port_in_use(netlink, port).await?,
            Some(libc::EOPNOTSUPP) => FallbackError::Unsupported,
            _ => error.into(),
        });
    }
    match netlink.link(FALLBACK_DEVICE).await? {
        Some(link) => Ok(link.ifindex),
        None => Err(FallbackError::Foreign { alias: None }),
    }
}

async fn port_in_use(netlink: &Netlink, port: u16) -> Result<FallbackError, NetlinkError> {
    let links = netlink.links().await?;
    let holder = links.into_iter().find(|link| {
        link.name != FALLBACK_DEVICE && link.vxlan.is_some_and(|vxlan| vxlan.port == port)
    });
    Ok(match holder {
        Some(link) => FallbackError::PortInUseByDevice {
            port,
            device: link.name,
        },
        None => FallbackError::PortInUse { port },
    })
}
