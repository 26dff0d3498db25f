//! Asking the kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};

use super::super::netlink::{Attempt as _, Netlink, NetlinkError};
use super::mirror::{Neighbor, NeighborKey, Route, neighbor};

/// The route that a packet from `vtep` to `peer` takes; `None` when there is none, or when the
/// peer is this host.
pub(super) async fn route(
    netlink: &Netlink,
    vtep: IpAddr,
    peer: IpAddr,
) -> Result<Option<Route>, NetlinkError> {
    if peer.is_multicast() {
        // Out of the device of the source address, whatever the routes say.
        let same = peer.is_ipv4() == vtep.is_ipv4();
        let device = netlink.carrier(vtep).await?.filter(|_| same);
        return Ok(device.map(|ifindex| Route {
            ifindex,
            next: peer,
            source: vtep,
            mtu: None,
        }));
    }
    let message = match (peer, vtep) {
        (IpAddr::V4(peer), IpAddr::V4(vtep)) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(peer, 32)
            .source_prefix(vtep, 32)
            .build(),
        (IpAddr::V6(peer), IpAddr::V6(vtep)) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(peer, 128)
            .source_prefix(vtep, 128)
            .build(),
        // No tunnel from one family to the other.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return Ok(None),
    };
    let found: Result<Vec<_>, _> = netlink
        .handle
        .route()
        .get(message)
        .execute()
        .try_collect()
        .await;
    match found {
        Ok(found) => Ok(found.first().and_then(|route| read(route, vtep, peer))),
        Err(rtnetlink::Error::NetlinkError(error)) if is_unroutable(-error.raw_code()) => Ok(None),
        Err(error) => Err(error).attempt(|| format!("look the route to {peer} up")),
    }
}

/// Unreachable, blackholed or prohibited; EINVAL is a source address that the host has not
/// (any more).
fn is_unroutable(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::ENODEV
    )
}

fn read(message: &RouteMessage, vtep: IpAddr, peer: IpAddr) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut ifindex = None;
    let mut next = peer;
    let mut mtu = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => next = IpAddr::V4(*ip),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => next = IpAddr::V6(*ip),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Route {
        ifindex: ifindex?,
        next,
        source: vtep,
        mtu,
    })
}

/// Every neighbour entry of both families.
pub(super) async fn neighbors(
    netlink: &Netlink,
) -> Result<BTreeMap<NeighborKey, Neighbor>, NetlinkError> {
    let mut all = BTreeMap::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let found: Vec<_> = netlink
            .handle
            .neighbours()
            .get()
            .set_address_family(family)
            .execute()
            .try_collect()
            .await
            .attempt(|| "list the neighbours".to_owned())?;
        all.extend(found.iter().filter_map(neighbor));
    }
    Ok(all)
}
