//! Which device and address the tunnels use.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use thiserror::Error;

use super::link::Link;
use super::netlink::{Attempt as _, Netlink, NetlinkError};

/// The underlay of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The device that carries the VTEP address.
    pub link: Link,
    /// The VTEP address.
    pub ip: Ipv4Addr,
}

#[derive(Debug, Error)]
pub enum UnderlayError {
    #[error("underlay device {0} does not exist: `ip link` lists the devices")]
    NoDevice(String),
    #[error("underlay device {0} is down: `ip link set {0} up`")]
    Down(String),
    #[error("underlay device {0} has no global IPv4 address: give it one, or name another device")]
    NoAddress(String),
    #[error("{ip} is not an address of {device}: `ip address show {device}` lists its addresses")]
    NotOnDevice { ip: Ipv4Addr, device: String },
    #[error("{0} is not an address of this host: `ip address` lists them")]
    NotOurs(Ipv4Addr),
    #[error("{0} is an IPv6 address: the underlay is IPv4")]
    NotIpv4(IpAddr),
    #[error(
        "there is no default route to choose the underlay by: name the device with --underlay or \
         the address with --advertise"
    )]
    NoDefaultRoute,
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Chooses the underlay: the device that carries `advertise`; the first global IPv4 address of
/// `device`; both, when both are given; else device and source address of the default route.
pub async fn choose(
    netlink: &Netlink,
    advertise: Option<IpAddr>,
    device: Option<&str>,
) -> Result<Underlay, UnderlayError> {
    let advertise = match advertise {
        Some(IpAddr::V4(ip)) => Some(ip),
        Some(ip @ IpAddr::V6(_)) => return Err(UnderlayError::NotIpv4(ip)),
        None => None,
    };
    let underlay = match (advertise, device) {
        (advertise, Some(name)) => on_device(netlink, name, advertise).await?,
        (Some(ip), None) => by_address(netlink, ip).await?,
        (None, None) => by_default_route(netlink).await?,
    };
    if !underlay.link.up {
        return Err(UnderlayError::Down(underlay.link.name));
    }
    Ok(underlay)
}

async fn on_device(
    netlink: &Netlink,
    name: &str,
    advertise: Option<Ipv4Addr>,
) -> Result<Underlay, UnderlayError> {
    let Some(link) = netlink.link(name).await? else {
        return Err(UnderlayError::NoDevice(name.to_owned()));
    };
    let addresses = ipv4_addresses(netlink, &link).await?;
    let ip = match advertise {
        Some(ip) if addresses.contains(&ip) => ip,
        Some(ip) => {
            return Err(UnderlayError::NotOnDevice {
                ip,
                device: link.name,
            });
        }
        None => *addresses
            .first()
            .ok_or_else(|| UnderlayError::NoAddress(link.name.clone()))?,
    };
    Ok(Underlay { link, ip })
}

async fn by_address(netlink: &Netlink, ip: Ipv4Addr) -> Result<Underlay, UnderlayError> {
    let Some(ifindex) = netlink.carrier(ip.into()).await? else {
        return Err(UnderlayError::NotOurs(ip));
    };
    let link = link_by_index(netlink, ifindex).await?;
    Ok(Underlay {
        link: link.ok_or(UnderlayError::NotOurs(ip))?,
        ip,
    })
}

async fn by_default_route(netlink: &Netlink) -> Result<Underlay, UnderlayError> {
    let routes: Vec<RouteMessage> = netlink
        .handle
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute()
        .try_collect()
        .await
        .attempt(|| "list the routes".to_owned())?;
    let DefaultRoute {
        ifindex, source, ..
    } = routes
        .iter()
        .filter_map(default_route)
        .min_by_key(|route| route.metric)
        .ok_or(UnderlayError::NoDefaultRoute)?;
    let link = link_by_index(netlink, ifindex)
        .await?
        .ok_or(UnderlayError::NoDefaultRoute)?;
    let ip = match source {
        Some(ip) => ip,
        None => *ipv4_addresses(netlink, &link)
            .await?
            .first()
            .ok_or_else(|| UnderlayError::NoAddress(link.name.clone()))?,
    };
    Ok(Underlay { link, ip })
}

struct DefaultRoute {
    metric: u32,
    ifindex: u32,
    source: Option<Ipv4Addr>,
}

/// The parts of an IPv4 default route of the main table; `None` for any other route.
fn default_route(route: &RouteMessage) -> Option<DefaultRoute> {
    let header = &route.header;
    if header.destination_prefix_length != 0
        || header.kind != RouteType::Unicast
        || header.table != RouteHeader::RT_TABLE_MAIN
    {
        return None;
    }
    let mut metric = 0;
    let mut ifindex = None;
    let mut source = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => source = Some(*ip),
            RouteAttribute::MultiPath(hops) => {
                ifindex = ifindex.or(hops.first().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    Some(DefaultRoute {
        metric,
        ifindex: ifindex?,
        source,
    })
}

async fn link_by_index(netlink: &Netlink, ifindex: u32) -> Result<Option<Link>, NetlinkError> {
    let links = netlink.links().await?;
    Ok(links.into_iter().find(|link| link.ifindex == ifindex))
}

async fn ipv4_addresses(netlink: &Netlink, link: &Link) -> Result<Vec<Ipv4Addr>, NetlinkError> {
    let addresses = netlink.addresses(link.ifindex).await?;
    Ok(addresses
        .into_iter()
        .filter_map(|net| match net.addr() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect())
}
