//! Which addresses of the underlay device are fit to be a VTEP's.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use super::super::link::global_address;
use super::super::netlink::{Attempt as _, Netlink, NetlinkError};
use super::Vteps;

/// A global address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) ip: IpAddr,
    /// Whether it is one to choose: settled, and not about to go.
    pub(super) lasting: bool,
}

/// The global addresses of a device, in the kernel's order.
pub(super) async fn of_device(netlink: &Netlink, ifindex: u32) -> Result<Vec<Found>, NetlinkError> {
    let messages: Vec<AddressMessage> = netlink
        .handle
        .address()
        .get()
        .set_link_index_filter(ifindex)
        .execute()
        .try_collect()
        .await
        .attempt(|| format!("list the addresses of device {ifindex}"))?;
    Ok(messages.iter().filter_map(found).collect())
}

fn found(message: &AddressMessage) -> Option<Found> {
    let ip = global_address(message)?;
    let flags = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
    let unfit = match ip {
        IpAddr::V4(_) => AddressFlags::Deprecated,
        // The bit of a secondary IPv4 address is that of a temporary IPv6 address (RFC 8981).
        IpAddr::V6(_) => {
            AddressFlags::Secondary
                | AddressFlags::Deprecated
                | AddressFlags::Tentative
                | AddressFlags::Dadfailed
        }
    };
    Some(Found {
        ip,
        lasting: flags.is_none_or(|flags| !flags.intersects(unfit)),
    })
}

/// The addresses to use: of each family the one in use while it lasts, else the first that does,
/// else the one in use while it is there at all.
pub(super) fn select(in_use: Vteps, found: &[Found]) -> Vteps {
    let one = |current: Option<IpAddr>, is_family: fn(&IpAddr) -> bool| {
        let of_family = || found.iter().filter(move |found| is_family(&found.ip));
        let lasting = || of_family().filter(|found| found.lasting);
        let is_current = |found: &&Found| Some(found.ip) == current;
        lasting()
            .find(is_current)
            .or_else(|| lasting().next())
            .or_else(|| of_family().find(is_current))
            .map(|found| found.ip)
    };
    let ip4 = one(in_use.ip4.map(IpAddr::V4), IpAddr::is_ipv4);
    let ip6 = one(in_use.ip6.map(IpAddr::V6), IpAddr::is_ipv6);
    ip4.into_iter()
        .chain(ip6)
        .fold(Vteps::default(), Vteps::with)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn found(list: &[(&str, bool)]) -> Vec<Found> {
        let found = list.iter().map(|&(text, lasting)| Found {
            ip: ip(text),
            lasting,
        });
        found.collect()
    }

    fn selected(in_use: Vteps, list: &[(&str, bool)]) -> String {
        select(in_use, &found(list)).to_string()
    }

    #[test]
    fn what_lasts_is_chosen_and_kept() {
        let none = Vteps::default();
        let list = [("fd00::f", false), ("fd00::1", true), ("192.0.2.1", true)];
        assert_eq!(selected(none, &list), "192.0.2.1, fd00::1");
        assert_eq!(selected(none, &[("fd00::f", false)]), "");

        let in_use = Vteps::from(ip("192.0.2.9"));
        let both = [("192.0.2.1", true), ("192.0.2.9", true)];
        assert_eq!(selected(in_use, &both), "192.0.2.9");
        assert_eq!(selected(in_use, &both[..1]), "192.0.2.1");
        let expiring = [("192.0.2.9", false), ("192.0.2.1", true)];
        assert_eq!(selected(in_use, &expiring), "192.0.2.1");
        assert_eq!(selected(in_use, &expiring[..1]), "192.0.2.9");
    }
}
