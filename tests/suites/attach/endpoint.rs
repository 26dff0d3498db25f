//! The veth pair of an endpoint.

use std::path::{Path, PathBuf};

use overlay_agent::host::Netlink;
use overlay_agent::host::endpoint::{self, EndpointError, NetnsError, NewEndpoint};
use overlay_common::net::MacAddr;
use tests::netns::Netns;

use super::world::{UNDERLAY, World};

const MAC: MacAddr = MacAddr([2, 0x42, 10, 0, 0, 2]);

fn new_endpoint(netns: &Path) -> NewEndpoint<'_> {
    NewEndpoint {
        device: "ovtest1",
        id: "e1",
        netns,
        ifname: "eth0",
        mac: MAC,
        mtu: 1450,
        addresses: &[],
        routes: &[],
    }
}

async fn create(world: &World, new: &NewEndpoint<'_>) -> Result<u32, EndpointError> {
    endpoint::create(&Netlink::open().unwrap(), &world.owner(), new).await
}

#[test]
fn both_ends_are_ready() {
    let world = World::new();
    let container = Netns::new("box").unwrap();
    let addresses = ["10.0.0.2/24", "fd00::2/64"].map(|a| a.parse().unwrap());
    let path = container.path();
    let listed = world.on_host(async || {
        let new = NewEndpoint {
            addresses: &addresses,
            ..new_endpoint(&path)
        };
        let ifindex = create(&world, &new).await.unwrap();
        let netlink = Netlink::open().unwrap();
        let listed = endpoint::list(&netlink, &world.owner()).await.unwrap();
        assert_eq!(listed[0].1.ifindex, ifindex);
        assert!(!listed[0].1.up, "nothing comes out before it is asked for");
        endpoint::open(&netlink, ifindex, "ovtest1").await.unwrap();
        listed
    });
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].0.as_str(), listed[0].1.name.as_str()),
        ("e1", "ovtest1")
    );

    let inside = container.ip(&["address", "show", "eth0"]).unwrap();
    for wanted in [
        "UP",
        "mtu 1450",
        "02:42:0a:00:00:02",
        "10.0.0.2/24",
        "fd00::2/64",
    ] {
        assert!(inside.contains(wanted), "{wanted}: {inside}");
    }
    let ipv6 = inside
        .lines()
        .find(|line| line.contains("fd00::2"))
        .unwrap();
    assert!(!ipv6.contains("tentative"), "usable at once: {ipv6}");
    let outside = world
        .host
        .ip(&["-details", "link", "show", "ovtest1"])
        .unwrap();
    // Larger, so that what is too big gets as far as the program.
    for wanted in ["UP", "mtu 34218", "addrgenmode none"] {
        assert!(outside.contains(wanted), "{wanted}: {outside}");
    }

    assert_eq!(
        world.sysctl("net.ipv6.conf.ovtest1.disable_ipv6"),
        "1",
        "the host tells the container of its multicast groups"
    );

    world.on_host(async || {
        let netlink = Netlink::open().unwrap();
        let owner = world.owner();
        assert!(endpoint::close(&netlink, &owner, "ovtest1").await.unwrap());
        let link = netlink.link("ovtest1").await.unwrap().unwrap();
        assert!(!link.up);
        let error = endpoint::close(&netlink, &owner, UNDERLAY)
            .await
            .unwrap_err();
        assert!(matches!(error, EndpointError::NotOurs { .. }), "{error:?}");
        assert!(endpoint::remove(&netlink, &owner, "ovtest1").await.unwrap());
        assert!(!endpoint::remove(&netlink, &owner, "ovtest1").await.unwrap());
        assert!(!endpoint::close(&netlink, &owner, "ovtest1").await.unwrap());
        let error = endpoint::remove(&netlink, &owner, UNDERLAY)
            .await
            .unwrap_err();
        assert!(matches!(error, EndpointError::NotOurs { .. }), "{error:?}");
    });
    container.ip(&["link", "show", "eth0"]).unwrap_err();
}

#[test]
fn refusals_leave_nothing() {
    let world = World::new();
    let container = Netns::new("box").unwrap();
    container
        .ip(&["link", "add", "taken", "type", "veth", "peer", "taken1"])
        .unwrap();
    let before = world.snapshot();
    let inside = container.ip(&["address"]).unwrap();
    let path = container.path();
    let missing = PathBuf::from("/run/netns/ovt-no-such");
    let own = world.host.path();
    let network = ["10.0.0.0/24".parse().unwrap()];
    // The kernel refuses the second: configured interfaces are rolled back too.
    let twice = ["10.0.0.2/24", "10.0.0.2/24"].map(|a| a.parse().unwrap());
    let base = new_endpoint(&path);
    for (what, new) in [
        (
            "netns missing",
            NewEndpoint {
                netns: &missing,
                ..base
            },
        ),
        (
            "not a netns",
            NewEndpoint {
                netns: Path::new("/proc/version"),
                ..base
            },
        ),
        (
            "own netns",
            NewEndpoint {
                netns: &own,
                ..base
            },
        ),
        (
            "interface taken",
            NewEndpoint {
                ifname: "taken",
                ..base
            },
        ),
        (
            "device taken",
            NewEndpoint {
                device: UNDERLAY,
                ..base
            },
        ),
        (
            "bad name",
            NewEndpoint {
                ifname: "a/b",
                ..base
            },
        ),
        (
            "bad mac",
            NewEndpoint {
                mac: MacAddr::BROADCAST,
                ..base
            },
        ),
        (
            "bad address",
            NewEndpoint {
                addresses: &network,
                ..base
            },
        ),
        (
            "address twice",
            NewEndpoint {
                addresses: &twice,
                ..base
            },
        ),
    ] {
        let error = world.on_host(async || create(&world, &new).await.unwrap_err());
        let as_expected = match what {
            "netns missing" => matches!(&error, EndpointError::Netns(NetnsError::Open { .. })),
            "not a netns" => matches!(&error, EndpointError::Netns(NetnsError::NotNetns(_))),
            "own netns" => matches!(&error, EndpointError::Netns(NetnsError::Own(_))),
            "interface taken" => matches!(&error, EndpointError::InterfaceTaken(_)),
            "device taken" => matches!(&error, EndpointError::DeviceTaken(_)),
            "bad name" => matches!(&error, EndpointError::Name(_)),
            "bad mac" => matches!(&error, EndpointError::Mac(_)),
            "bad address" => matches!(&error, EndpointError::Address(_)),
            "address twice" => matches!(&error, EndpointError::Netlink(_)),
            other => panic!("{other}"),
        };
        assert!(as_expected, "{what}: {error:?}");
        assert_eq!(world.snapshot(), before, "{what}");
        assert_eq!(container.ip(&["address"]).unwrap(), inside, "{what}");
    }
}
