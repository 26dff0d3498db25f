//! Which device and addresses the tunnels use.

mod addresses;
mod vteps;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use thiserror::Error;

use super::link::Link;
use super::netlink::{Attempt as _, Netlink, NetlinkError};
pub use vteps::Vteps;
pub use watch::{UnderlayNow, UnderlayWatcher};

/// The underlay of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The device that carries the VTEP addresses.
    pub link: Link,
    pub vteps: Vteps,
}

#[derive(Debug, Error)]
pub enum UnderlayError {
    #[error("underlay device {0} does not exist: `ip link` lists the devices")]
    NoDevice(String),
    #[error("underlay device {0} is down: `ip link set {0} up`")]
    Down(String),
    #[error(
        "underlay device {0} has no global IPv4 or IPv6 address: give it one, or name another device"
    )]
    NoAddress(String),
    #[error("{ip} is not an address of {device}: `ip address show {device}` lists its addresses")]
    NotOnDevice { ip: IpAddr, device: String },
    #[error("{0} is not an address of this host: `ip address` lists them")]
    NotOurs(IpAddr),
    #[error("{0} and {1} are of one family: advertise at most one IPv4 and one IPv6 address")]
    OneFamily(IpAddr, IpAddr),
    #[error("{0} cannot be advertised: a global unicast address is wanted")]
    NotGlobal(IpAddr),
    #[error(
        "there is no default route to choose the underlay by: name the device with --underlay or \
         the address with --advertise"
    )]
    NoDefaultRoute,
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Chooses the underlay. The device is the one named, else the one with the first address of
/// `advertise`, else that of the default route. The addresses are those of `advertise`, all on
/// that device; without any, the device's first of each family, where the source of the default
/// route goes first.
pub async fn choose(
    netlink: &Netlink,
    advertise: &[IpAddr],
    device: Option<&str>,
) -> Result<Underlay, UnderlayError> {
    let wanted = wanted(advertise)?;
    let (link, preferred) = match (device, advertise.first()) {
        (Some(name), _) => {
            let link = netlink.link(name).await?;
            let link = link.ok_or_else(|| UnderlayError::NoDevice(name.to_owned()))?;
            (link, Vteps::default())
        }
        (None, Some(ip)) => (carrier(netlink, *ip).await?, Vteps::default()),
        (None, None) => by_default_route(netlink).await?,
    };
    let found = addresses::of_device(netlink, link.ifindex).await?;
    let vteps = if wanted.is_empty() {
        addresses::select(preferred, &found)
    } else {
        wanted
    };
    let is_there = |ip: &IpAddr| found.iter().any(|found| found.ip == *ip);
    if let Some(ip) = vteps.addresses().into_iter().find(|ip| !is_there(ip)) {
        return Err(UnderlayError::NotOnDevice {
            ip,
            device: link.name,
        });
    }
    if vteps.is_empty() {
        return Err(UnderlayError::NoAddress(link.name));
    }
    if !link.up {
        return Err(UnderlayError::Down(link.name));
    }
    Ok(Underlay { link, vteps })
}

fn wanted(advertise: &[IpAddr]) -> Result<Vteps, UnderlayError> {
    let mut wanted = Vteps::default();
    for &ip in advertise {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if link_local || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
            return Err(UnderlayError::NotGlobal(ip));
        }
        if let Some(other) = wanted.towards(ip) {
            return Err(UnderlayError::OneFamily(other, ip));
        }
        wanted = wanted.with(ip);
    }
    Ok(wanted)
}

async fn carrier(netlink: &Netlink, ip: IpAddr) -> Result<Link, UnderlayError> {
    let Some(ifindex) = netlink.carrier(ip).await? else {
        return Err(UnderlayError::NotOurs(ip));
    };
    let link = link_by_index(netlink, ifindex).await?;
    link.ok_or(UnderlayError::NotOurs(ip))
}

/// The device of the best IPv4 default route, else of the best IPv6 one, and the route's source.
async fn by_default_route(netlink: &Netlink) -> Result<(Link, Vteps), UnderlayError> {
    let ip4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let ip6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for family in [ip4, ip6] {
        let routes: Vec<RouteMessage> = netlink
            .handle
            .route()
            .get(family)
            .execute()
            .try_collect()
            .await
            .attempt(|| "list the routes".to_owned())?;
        let best = routes
            .iter()
            .filter_map(default_route)
            .min_by_key(|route| route.metric);
        let Some(route) = best else {
            continue;
        };
        if let Some(link) = link_by_index(netlink, route.ifindex).await? {
            return Ok((link, route.source.map(Vteps::from).unwrap_or_default()));
        }
    }
    Err(UnderlayError::NoDefaultRoute)
}

struct DefaultRoute {
    metric: u32,
    ifindex: u32,
    source: Option<IpAddr>,
}

/// The parts of a default route of the main table; `None` for any other route.
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
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => source = Some((*ip).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(ip)) => source = Some((*ip).into()),
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
