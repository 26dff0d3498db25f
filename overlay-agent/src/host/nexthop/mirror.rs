//! What is known of routes, devices and neighbours, and what follows from it. No I/O: fed with
//! answers and announcements of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use overlay_common::net::MacAddr;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;

use super::super::link::{Link, mac};
use super::{NextHop, NextHops};

/// Who installed a managed neighbour entry, as `ip -d neigh` shows it: one of the numbers that
/// rtnetlink.h leaves to administrators.
pub(super) const PROTOCOL: u8 = 0xd7;

/// The route to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) ifindex: u32,
    /// The peer itself, or the gateway to it.
    pub(super) next: IpAddr,
    pub(super) source: IpAddr,
    /// Path MTU, if the route says one.
    pub(super) mtu: Option<u32>,
}

/// A neighbour entry: device and address.
pub(super) type NeighborKey = (u32, IpAddr);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbor {
    /// `None` while the address is being resolved, or after it failed.
    pub(super) mac: Option<MacAddr>,
    /// The kernel refreshes it by itself.
    pub(super) managed: bool,
    /// We made it managed.
    pub(super) ours: bool,
    /// An administrator's entry, which needs no refreshing.
    pub(super) fixed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Mirror {
    pub(super) routes: BTreeMap<IpAddr, Route>,
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) neighbors: BTreeMap<NeighborKey, Neighbor>,
}

impl Mirror {
    /// The neighbours that the routes lead over.
    pub(super) fn wanted(&self) -> BTreeSet<NeighborKey> {
        self.routes
            .values()
            .filter(|route| !route.next.is_multicast())
            .map(|route| (route.ifindex, route.next))
            .collect()
    }

    /// Entries to be made managed, and entries of ours that nobody needs any more.
    pub(super) fn marks(&self) -> (Vec<NeighborKey>, Vec<NeighborKey>) {
        let wanted = self.wanted();
        let missing = wanted
            .iter()
            .filter(|key| {
                self.neighbors
                    .get(key)
                    .is_none_or(|neighbor| !neighbor.managed && !neighbor.fixed)
            })
            .copied()
            .collect();
        let stale = self
            .neighbors
            .iter()
            .filter(|(key, neighbor)| neighbor.ours && !wanted.contains(key))
            .map(|(key, _)| *key)
            .collect();
        (missing, stale)
    }

    pub(super) fn next_hops(&self) -> NextHops {
        self.routes
            .iter()
            .filter_map(|(peer, route)| {
                let link = self.links.get(&route.ifindex).filter(|link| link.up)?;
                let neighbor = self.neighbors.get(&(route.ifindex, route.next));
                Some((
                    *peer,
                    NextHop {
                        ifindex: route.ifindex,
                        source_mac: link.mac?,
                        source_ip: route.source,
                        mtu: route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
                        mac: group_mac(route.next)
                            .or_else(|| neighbor.and_then(|neighbor| neighbor.mac)),
                    },
                ))
            })
            .collect()
    }

    /// Takes a link's announcement in.
    ///
    /// Returns whether routes may have changed without being announced: the kernel drops IPv4
    /// routes of a device that goes down in silence. Devices that carry no tunnel come and go
    /// with every container and are none of our business.
    pub(super) fn link_changed(&mut self, link: Link) -> bool {
        let used = self
            .routes
            .values()
            .any(|route| route.ifindex == link.ifindex);
        self.links.insert(link.ifindex, link);
        used
    }

    /// As [`Self::link_changed`], for one that is gone.
    pub(super) fn link_removed(&mut self, ifindex: u32) -> bool {
        self.links.remove(&ifindex);
        self.neighbors.retain(|(index, _), _| *index != ifindex);
        self.routes.values().any(|route| route.ifindex == ifindex)
    }

    pub(super) fn neighbor_changed(&mut self, message: &NeighbourMessage) {
        if let Some((key, neighbor)) = neighbor(message) {
            self.neighbors.insert(key, neighbor);
        }
    }

    pub(super) fn neighbor_removed(&mut self, message: &NeighbourMessage) {
        if let Some((key, _)) = neighbor(message) {
            self.neighbors.remove(&key);
        }
    }
}

/// The Ethernet address of a multicast group (RFC 1112, section 6.4; RFC 2464, section 7); `None`
/// for an address that is none.
fn group_mac(address: IpAddr) -> Option<MacAddr> {
    if !address.is_multicast() {
        return None;
    }
    Some(MacAddr(match address {
        IpAddr::V4(ip) => {
            let [_, b, c, d] = ip.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }))
}

/// Reads a neighbour message; `None` for one without an IP address (a bridge's FDB).
pub(super) fn neighbor(message: &NeighbourMessage) -> Option<(NeighborKey, Neighbor)> {
    let mut ip = None;
    let mut address = None;
    let mut managed = false;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                ip = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                ip = Some(IpAddr::V6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => address = mac(bytes),
            NeighbourAttribute::ExtFlags(flags) => {
                managed = flags.contains(NeighbourExtFlags::Managed);
            }
            NeighbourAttribute::Protocol(protocol) => {
                ours = *protocol == RouteProtocol::from(PROTOCOL);
            }
            _ => {}
        }
    }
    // NUD_VALID of the kernel: the states in which it sends to the address it has.
    let fixed = matches!(
        message.header.state,
        NeighbourState::Permanent | NeighbourState::Noarp
    );
    let valid = fixed
        || matches!(
            message.header.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
        );
    Some((
        (message.header.ifindex, ip?),
        Neighbor {
            mac: address.filter(|_| valid),
            managed,
            ours: ours && managed,
            fixed,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 254));
    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn link(ifindex: u32) -> Link {
        Link {
            ifindex,
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            mtu: 1500,
            up: true,
            ..Link::default()
        }
    }

    fn reachable(managed: bool, ours: bool) -> Neighbor {
        Neighbor {
            mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
            managed,
            ours,
            fixed: false,
        }
    }

    fn mirror() -> Mirror {
        let mut mirror = Mirror::default();
        mirror.links.insert(3, link(3));
        mirror.routes.insert(
            PEER,
            Route {
                ifindex: 3,
                next: GATEWAY,
                source: SOURCE,
                mtu: None,
            },
        );
        mirror
    }

    #[test]
    fn next_hop_is_the_gateways() {
        let mut mirror = mirror();
        assert_eq!(mirror.next_hops()[&PEER].mac, None);
        mirror.neighbors.insert((3, GATEWAY), reachable(true, true));
        mirror.neighbors.insert(
            (4, GATEWAY),
            Neighbor {
                mac: None,
                ..reachable(true, true)
            },
        );
        let hop = mirror.next_hops()[&PEER];
        assert_eq!(hop.mac, Some(MacAddr([2, 0, 0, 0, 0, 9])));
        assert_eq!((hop.ifindex, hop.mtu, hop.source_ip), (3, 1500, SOURCE));
    }

    #[test]
    fn groups_need_no_neighbour() {
        for (group, mac) in [
            ("239.129.2.3", [0x01, 0x00, 0x5e, 0x01, 0x02, 0x03]),
            ("ff15::4:5:6:7", [0x33, 0x33, 0x00, 0x06, 0x00, 0x07]),
        ] {
            let group: IpAddr = group.parse().unwrap();
            let mut mirror = mirror();
            let route = Route {
                next: group,
                ..mirror.routes[&PEER]
            };
            mirror.routes = [(group, route)].into();
            assert_eq!(mirror.next_hops()[&group].mac, Some(MacAddr(mac)));
            assert_eq!(mirror.marks(), (vec![], vec![]));
        }
        assert_eq!(group_mac(PEER), None);
    }

    #[test]
    fn mtu_is_the_smaller() {
        let mut mirror = mirror();
        for (route, wanted) in [(Some(1400), 1400), (Some(9000), 1500), (None, 1500)] {
            mirror.routes.get_mut(&PEER).unwrap().mtu = route;
            assert_eq!(mirror.next_hops()[&PEER].mtu, wanted);
        }
    }

    #[test]
    fn no_hop_over_a_device_that_cannot() {
        let mut mirror = mirror();
        mirror.links.get_mut(&3).unwrap().up = false;
        assert_eq!(mirror.next_hops(), NextHops::new());
        mirror.links.insert(
            3,
            Link {
                mac: None,
                ..link(3)
            },
        );
        assert_eq!(mirror.next_hops(), NextHops::new());
        assert!(mirror.link_removed(3));
        assert_eq!(mirror.next_hops(), NextHops::new());
    }

    #[test]
    fn marks_what_is_used_and_only_that() {
        let mut mirror = mirror();
        let key = (3, GATEWAY);
        let other = (3, IpAddr::from([10, 0, 0, 7]));
        assert_eq!(mirror.marks(), (vec![key], vec![]));
        mirror.neighbors.insert(key, reachable(false, false));
        assert_eq!(mirror.marks(), (vec![key], vec![]));
        mirror.neighbors.insert(
            key,
            Neighbor {
                fixed: true,
                ..reachable(false, false)
            },
        );
        assert_eq!(mirror.marks(), (vec![], vec![]));
        mirror.neighbors.insert(key, reachable(true, false));
        mirror.neighbors.insert(other, reachable(true, false));
        assert_eq!(
            mirror.marks(),
            (vec![], vec![]),
            "an administrator's marks stay"
        );
        mirror.neighbors.insert(other, reachable(true, true));
        assert_eq!(mirror.marks(), (vec![], vec![other]));
    }

    #[test]
    fn only_links_in_use_ask_for_routes() {
        let mut mirror = mirror();
        assert!(!mirror.link_changed(link(9)));
        assert!(mirror.link_changed(link(3)));
        assert!(!mirror.link_removed(9));
    }
}
