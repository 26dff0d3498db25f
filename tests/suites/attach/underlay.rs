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
    let advertise: Option<IpAddr> = advertise.map(|ip| ip.parse().unwrap());
    let chosen = world
        .on_host(async || underlay::choose(&Netlink::open().unwrap(), advertise, device).await);
    chosen.map(|Underlay { link, ip }| (link.name, ip.to_string()))
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
            "underlay device bare has no global IPv4 address: give it one, or name another device",
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
            "fd00::1 is an IPv6 address: the underlay is IPv4",
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
