//! Choosing the underlay.

use std::net::IpAddr;

use overlay_agent::host::Netlink;
use overlay_agent::host::underlay::{self, Underlay, UnderlayError};

use super::world::{UNDERLAY, World};

fn choose(
    world: &World,
    advertise: Option<&str>,
    device: Option<&str>,
) -> Result<(String, String), UnderlayError> {
    let advertise: Vec<IpAddr> = advertise
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(|ip| ip.parse().unwrap())
        .collect();
    let chosen = world
        .on_host(async || underlay::choose(&Netlink::open().unwrap(), &advertise, device).await);
    chosen.map(|Underlay { link, vteps }| (link.name, vteps.to_string()))
}

fn found(device: &str, ip: &str) -> (String, String) {
    (device.to_owned(), ip.to_owned())
}

#[test]
fn by_device_address_or_default_route() {
    let world = World::new();
    world
        .host
        .ip(&["address", "add", "192.0.2.9/24", "dev", UNDERLAY])
        .unwrap();
    for (advertise, device, ip) in [
        (None, Some(UNDERLAY), "192.0.2.1"),
        (Some("192.0.2.9"), None, "192.0.2.9"),
        (Some("192.0.2.9"), Some(UNDERLAY), "192.0.2.9"),
    ] {
        assert_eq!(
            choose(&world, advertise, device).unwrap(),
            found(UNDERLAY, ip)
        );
    }

    let error = choose(&world, None, None).unwrap_err();
    assert!(matches!(error, UnderlayError::NoDefaultRoute), "{error:?}");
    let route = ["route", "add", "default", "via", "192.0.2.2", "metric"];
    world
        .host
        .ip(&[route.as_slice(), &["200"]].concat())
        .unwrap();
    assert_eq!(
        choose(&world, None, None).unwrap(),
        found(UNDERLAY, "192.0.2.1")
    );
    // The route with the lower metric, and its source.
    world
        .host
        .ip(&[route.as_slice(), &["100", "src", "192.0.2.9"]].concat())
        .unwrap();
    assert_eq!(
        choose(&world, None, None).unwrap(),
        found(UNDERLAY, "192.0.2.9")
    );
}

#[test]
fn of_both_families() {
    let world = World::new();
    let add = |address: &str, more: &[&str]| {
        let add = ["address", "add", address, "dev", UNDERLAY];
        world.host.ip(&[&add[..], more].concat()).unwrap();
    };
    // About to go: not chosen, whatever its place.
    add("fd00::9/64", &["preferred_lft", "0", "valid_lft", "1000"]);
    assert_eq!(
        choose(&world, None, Some(UNDERLAY)).unwrap(),
        found(UNDERLAY, "192.0.2.1")
    );
    add("fd00::1/64", &[]);
    for (advertise, device, ip) in [
        (None, Some(UNDERLAY), "192.0.2.1, fd00::1"),
        (Some("fd00::1"), None, "fd00::1"),
        (Some("fd00::1,192.0.2.1"), None, "192.0.2.1, fd00::1"),
        (Some("192.0.2.1"), None, "192.0.2.1"),
    ] {
        let chosen = choose(&world, advertise, device).unwrap();
        assert_eq!(chosen, found(UNDERLAY, ip), "{advertise:?}");
    }
    let delete = ["address", "delete", "192.0.2.1/24", "dev", UNDERLAY];
    world.host.ip(&delete).unwrap();
    let route = [
        "-6", "route", "add", "default", "via", "fd00::2", "dev", UNDERLAY,
    ];
    world.host.ip(&route).unwrap();
    assert_eq!(
        choose(&world, None, None).unwrap(),
        found(UNDERLAY, "fd00::1")
    );
}

#[test]
fn each_mistake_has_its_line() {
    let world = World::new();
    let bare = ["link", "add", "bare", "type", "bridge"];
    world.host.ip(&bare).unwrap();
    for (advertise, device, wanted) in [
        (
            None,
            Some("nosuch"),
            "underlay device nosuch does not exist: `ip link` lists the devices",
        ),
        (
            None,
            Some("much-too-long-for-a-device"),
            "underlay device much-too-long-for-a-device does not exist: `ip link` lists the devices",
        ),
        (
            None,
            Some("bare"),
            "underlay device bare has no global IPv4 or IPv6 address: give it one, or name another device",
        ),
        (
            Some("192.0.2.7"),
            Some(UNDERLAY),
            "192.0.2.7 is not an address of eth0: `ip address show eth0` lists its addresses",
        ),
        (
            Some("192.0.2.7"),
            None,
            "192.0.2.7 is not an address of this host: `ip address` lists them",
        ),
        (
            Some("fd00::1"),
            None,
            "fd00::1 is not an address of this host: `ip address` lists them",
        ),
        (
            Some("192.0.2.1,192.0.2.7"),
            None,
            "192.0.2.1 and 192.0.2.7 are of one family: advertise at most one IPv4 and one IPv6 address",
        ),
        (
            Some("fe80::1"),
            Some(UNDERLAY),
            "fe80::1 cannot be advertised: a global unicast address is wanted",
        ),
    ] {
        let error = choose(&world, advertise, device).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
    world.host.ip(&["link", "set", UNDERLAY, "down"]).unwrap();
    let error = choose(&world, None, Some(UNDERLAY)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "underlay device eth0 is down: `ip link set eth0 up`"
    );
}
