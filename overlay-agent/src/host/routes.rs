//! Routes of a container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};

use super::netlink::{Attempt as _, Netlink, NetlinkError, errno};

/// The kernel's own table of this host's addresses (`include/uapi/linux/rtnetlink.h`).
const RT_TABLE_LOCAL: u8 = 255;

/// What is reached by way of a gateway. Both are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNet,
    /// On the link.
    pub gateway: IpAddr,
}

impl Netlink {
    /// Adds routes through a device that is up. A way that is there already stays, whatever its
    /// metric: the container may be on other networks, or have its own way out.
    pub(super) async fn add_routes(
        &self,
        ifindex: u32,
        routes: &[Route],
    ) -> Result<(), NetlinkError> {
        for route in routes {
            if self.has_route(route.destination).await? {
                continue;
            }
            let message = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(route.destination.addr(), route.destination.prefix_len())
                .and_then(|builder| builder.gateway(route.gateway))
                .map(|builder| builder.output_interface(ifindex).build());
            let Ok(message) = message else {
                // The two families are one, and a prefix length is in range.
                continue;
            };
            match self.handle.route().add(message).execute().await {
                // Somebody was faster.
                Err(error) if errno(&error) == Some(libc::EEXIST) => {}
                result => result.attempt(|| {
                    let Route {
                        destination,
                        gateway,
                    } = route;
                    format!("add the route to {destination} via {gateway} in the container")
                })?,
            }
        }
        Ok(())
    }

    /// Whether the main table has a route to just this prefix.
    async fn has_route(&self, destination: IpNet) -> Result<bool, NetlinkError> {
        let family = match destination {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        let main = [RouteHeader::RT_TABLE_MAIN];
        Ok(self.routes_in(&main, family).await?.contains(&destination))
    }

    /// What the main table has routes to, but for the default ones, and the host's own addresses: one on the
    /// loopback device has no route in the main table.
    pub async fn routes(&self) -> Result<Vec<IpNet>, NetlinkError> {
        let tables = [RouteHeader::RT_TABLE_MAIN, RT_TABLE_LOCAL];
        let mut routes = self.routes_in(&tables, AddressFamily::Inet).await?;
        routes.extend(self.routes_in(&tables, AddressFamily::Inet6).await?);
        routes.retain(|route| route.prefix_len() != 0);
        Ok(routes)
    }

    async fn routes_in(
        &self,
        tables: &[u8],
        family: AddressFamily,
    ) -> Result<Vec<IpNet>, NetlinkError> {
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = family;
        let found: Vec<_> = self
            .handle
            .route()
            .get(wanted)
            .execute()
            .try_collect()
            .await
            .attempt(|| "list the routes".to_owned())?;
        let wanted = |route: &&RouteMessage| tables.contains(&route.header.table);
        Ok(found.iter().filter(wanted).filter_map(prefix).collect())
    }
}

/// What a route leads to; the default route has no destination attribute.
fn prefix(route: &RouteMessage) -> Option<IpNet> {
    let unspecified = match route.header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
            _ => None,
        });
    let length = route.header.destination_prefix_length;
    IpNet::new(address.unwrap_or(unspecified), length).ok()
}
