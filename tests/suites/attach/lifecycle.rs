//! Open, take over, detach.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use aya::maps::{HashMap, MapData, MapInfo};
use aya::programs::links::PinnedLink;
use aya::programs::{SchedClassifier, TcAttachType};
use overlay_agent::datapath::rows::Change;
use overlay_agent::datapath::{
    Datapath, DatapathError, TablesError, XdpMode, detach_all, detach_programs,
};
use overlay_agent::host::endpoint::{self, NewEndpoint};
use overlay_agent::host::nexthop::NextHopWatcher;
use overlay_agent::host::{Netlink, Owner};
use overlay_common::layout::PeerValue;
use overlay_common::maps;
use overlay_common::net::{IpKey, MacAddr};
use tests::netns::Netns;
use tokio::time::timeout;

use super::world::{self, HOST_IP, NEIGHBOR_IP, UNDERLAY, World};

const DEVICE: &str = "ovtest1";
const ENDPOINT_LINK: &str = "endpoint-ovtest1";

async fn add_endpoint(owner: &Owner, container: &Netns) -> u32 {
    let new = NewEndpoint {
        device: DEVICE,
        id: "e1",
        netns: &container.path(),
        ifname: "eth0",
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1450,
        addresses: &["10.0.0.2/24".parse().unwrap()],
        routes: &[],
    };
    let netlink = Netlink::open().unwrap();
    endpoint::create(&netlink, owner, &new).await.unwrap()
}

fn map_id(path: &Path) -> u32 {
    MapInfo::from_pin(path).unwrap().id()
}

#[test]
fn open_attaches_and_pins() {
    let world = World::new();
    world.open(XdpMode::Auto).unwrap();

    let mut pinned: BTreeSet<_> = world::pins(&world.paths().maps()).into_iter().collect();
    for name in maps::ALL {
        let path = world.paths().map(name).display().to_string();
        assert!(pinned.remove(&path), "{path}");
    }
    assert!(pinned.is_empty(), "{pinned:?}");
    // No XDP: the underlay is a veth.
    assert_eq!(
        world::pins(&world.paths().links()),
        ["from_fallback", "from_underlay", "to_underlay"].map(|name| world
            .paths()
            .links()
            .join(name)
            .display()
            .to_string())
    );
    assert_eq!(world.programs(UNDERLAY), ["from_underlay"]);
    assert_eq!(world.programs("ovx0"), ["from_fallback"]);

    let fallback = world
        .host
        .ip(&["-details", "link", "show", "ovx0"])
        .unwrap();
    for wanted in [
        "UP",
        "mtu 65485",
        "vxlan external",
        "srcport 49152 65535",
        "dstport 4789",
        "nolearning",
        "addrgenmode none",
    ] {
        assert!(fallback.contains(wanted), "{wanted}: {fallback}");
    }
    let addresses = world.host.ip(&["address", "show", "ovx0"]).unwrap();
    assert!(!addresses.contains("inet"), "{addresses}");
}

#[test]
fn open_again_replaces_programs_in_place() {
    let world = World::new();
    let container = Netns::new("box").unwrap();
    let peer = IpKey::v4([192, 0, 2, 2]);
    let change = Change::Peer(peer, Some(PeerValue { index: 1 }));
    world.on_host(async || {
        let mut datapath = world::open(world.paths(), UNDERLAY, XdpMode::Generic)
            .await
            .unwrap();
        add_endpoint(&world.owner(), &container).await;
        datapath.attach_endpoint(DEVICE).await.unwrap();
        // Again is no error, and no second program.
        datapath.attach_endpoint(DEVICE).await.unwrap();
        datapath.tables.apply(&change).unwrap();
    });
    assert_eq!(world.programs(DEVICE), ["from_endpoint"]);
    let names = [
        "underlay_xdp",
        "from_underlay",
        "from_fallback",
        ENDPOINT_LINK,
    ];
    let before = names.map(|name| world.link(name));
    let map = map_id(&world.paths().map(maps::FDB));

    world.open(XdpMode::Generic).unwrap();
    for (name, (link, program)) in names.iter().zip(before) {
        let (link_now, program_now) = world.link(name);
        assert_eq!(link_now, link, "{name}: the link stays");
        assert_ne!(program_now, program, "{name}: the program is a new one");
    }
    assert_eq!(world.programs(UNDERLAY), ["from_underlay"]);
    assert_eq!(world.programs(DEVICE), ["from_endpoint"]);
    assert_eq!(map_id(&world.paths().map(maps::FDB)), map);
    let rows = Datapath::maps_only(&world.paths())
        .unwrap()
        .read_rows()
        .unwrap();
    assert_eq!(rows.peers.get(&peer), Some(&PeerValue { index: 1 }));
}

#[test]
fn detach_leaves_the_host_as_it_was() {
    let world = World::new();
    let container = Netns::new("box").unwrap();
    let before = world.snapshot();
    let inside = container.ip(&["link"]).unwrap();
    fs::remove_dir(world.bpffs.path()).unwrap();

    let detached = world.on_host(async || {
        let mut datapath = world::open(world.paths(), UNDERLAY, XdpMode::Generic)
            .await
            .unwrap();
        add_endpoint(&world.owner(), &container).await;
        datapath.attach_endpoint(DEVICE).await.unwrap();
        let watcher = NextHopWatcher::spawn(HOST_IP.parse::<IpAddr>().unwrap().into()).unwrap();
        watcher.set_peers([NEIGHBOR_IP.parse().unwrap()].into());
        let hops = &mut watcher.subscribe();
        let resolved = hops.wait_for(|hops| hops.values().any(|hop| hop.mac.is_some()));
        timeout(Duration::from_secs(10), resolved)
            .await
            .unwrap()
            .unwrap();
        drop(watcher);
        // In use, as when `detach` runs beside the agent, and a link held by somebody else.
        let held = PinnedLink::from_pin(world.paths().links().join("from_underlay")).unwrap();
        let detached = detach_all(&world.paths()).await;
        assert_eq!(
            SchedClassifier::query_tcx(UNDERLAY, TcAttachType::Ingress)
                .unwrap()
                .1
                .len(),
            0
        );
        drop((datapath, held));
        detached
    });
    assert!(detached.errors.is_empty(), "{:?}", detached.errors);
    assert_eq!(detached.removed.len(), 10, "{:?}", detached.removed);
    assert!(!world.bpffs.path().exists());
    assert_eq!(world.snapshot(), before);
    assert_eq!(container.ip(&["link"]).unwrap(), inside);
    let neighbors = world.host.ip(&["-details", "neigh"]).unwrap();
    assert!(!neighbors.contains("managed"), "{neighbors}");

    let again = world.on_host(async || detach_all(&world.paths()).await);
    assert!(again.errors.is_empty(), "{:?}", again.errors);
    assert!(again.removed.is_empty(), "{:?}", again.removed);
    let error = Datapath::maps_only(&world.paths()).unwrap_err();
    assert!(
        matches!(error, DatapathError::Tables(TablesError::NotLoaded(_))),
        "{error:?}"
    );
}

#[test]
fn detach_touches_nobody_elses() {
    let world = World::new();
    world
        .host
        .ip(&["link", "add", "other", "type", "veth", "peer", "other1"])
        .unwrap();
    let alias = format!("overlay {}x endpoint e1", world.bpffs.path().display());
    world
        .host
        .ip(&["link", "set", "other", "alias", &alias])
        .unwrap();
    let before = world.host.ip(&["link"]).unwrap();
    let detached = world.on_host(async || detach_all(&world.paths()).await);
    assert!(detached.errors.is_empty(), "{:?}", detached.errors);
    assert_eq!(world.host.ip(&["link"]).unwrap(), before);
}

#[test]
fn another_underlay_is_attached_anew() {
    let world = World::new();
    world.open(XdpMode::Generic).unwrap();
    for args in [
        ["link", "add", "eth1", "type", "bridge"].as_slice(),
        &["address", "add", "198.51.100.1/24", "dev", "eth1"],
        &["link", "set", "eth1", "up"],
    ] {
        world.host.ip(args).unwrap();
    }
    world.open_on("eth1", XdpMode::Generic).unwrap();
    assert_eq!(world.programs(UNDERLAY), [""; 0]);
    assert_eq!(world.programs("eth1"), ["from_underlay"]);
    for (device, wanted) in [(UNDERLAY, false), ("eth1", true)] {
        let link = world.host.ip(&["link", "show", device]).unwrap();
        assert_eq!(link.contains("xdpgeneric"), wanted, "{link}");
    }
}

#[test]
fn a_lost_device_does_not_stop_the_next_run() {
    let world = World::new();
    let container = Netns::new("box").unwrap();
    world.on_host(async || {
        let mut datapath = world::open(world.paths(), UNDERLAY, XdpMode::Off)
            .await
            .unwrap();
        add_endpoint(&world.owner(), &container).await;
        datapath.attach_endpoint(DEVICE).await.unwrap();
    });
    drop(container);
    world.host.ip(&["link", "delete", "ovx0"]).unwrap();
    tests::wait::eventually(Duration::from_secs(5), || {
        // A namespace's devices go some time after it.
        match world.host.ip(&["link", "show", DEVICE]) {
            Ok(_) => anyhow::bail!("{DEVICE} is still there"),
            Err(_) => Ok(()),
        }
    });
    world.open(XdpMode::Off).unwrap();
    assert_eq!(world.programs("ovx0"), ["from_fallback"]);
    assert!(!world.paths().endpoint_link(DEVICE).exists());
}

/// The data path with one endpoint, up and without a row; the ifindex of its host side.
fn open_with_endpoint(world: &World, container: &Netns) -> u32 {
    world.on_host(async || {
        let mut datapath = world::open(world.paths(), UNDERLAY, XdpMode::Off)
            .await
            .unwrap();
        let ifindex = add_endpoint(&world.owner(), container).await;
        datapath.attach_endpoint(DEVICE).await.unwrap();
        let netlink = Netlink::open().unwrap();
        endpoint::open(&netlink, ifindex, DEVICE).await.unwrap();
        ifindex
    })
}

/// An endpoint reserves room for outer headers: it is a port of a bridge that drops everything.
#[test]
fn endpoints_reserve_room() {
    const BRIDGE: &str = "ovh0";
    let world = World::new();
    let container = Netns::new("box").unwrap();
    open_with_endpoint(&world, &container);
    let show = |device| {
        let args = ["-details", "link", "show", device];
        world.host.ip(&args).unwrap()
    };
    for device in [DEVICE, "ovx0"] {
        let shown = show(device);
        assert!(shown.contains(&format!("master {BRIDGE} ")), "{shown}");
        assert!(shown.contains("bridge_slave state disabled"), "{shown}");
    }
    // An earlier version's endpoints, and a bridge that somebody has brought up.
    world.host.ip(&["link", "set", DEVICE, "nomaster"]).unwrap();
    world.host.ip(&["link", "set", BRIDGE, "up"]).unwrap();
    world.open(XdpMode::Off).unwrap();
    assert!(!world.is_up(BRIDGE));
    assert!(show(DEVICE).contains("bridge_slave state disabled"));

    world
        .host
        .ip(&["link", "set", BRIDGE, "alias", "another's"])
        .unwrap();
    world.host.ip(&["link", "set", DEVICE, "nomaster"]).unwrap();
    world.open(XdpMode::Off).unwrap();
    assert_eq!(world.programs(DEVICE), ["from_endpoint"]);
    assert!(!show(DEVICE).contains("master"));
}

#[test]
fn endpoints_are_attached_and_detached() {
    let world = World::new();
    let container = Netns::new("box").unwrap();
    world.on_host(async || {
        let mut datapath = world::open(world.paths(), UNDERLAY, XdpMode::Off)
            .await
            .unwrap();
        let ifindex = add_endpoint(&world.owner(), &container).await;
        assert_eq!(datapath.attach_endpoint(DEVICE).await.unwrap(), ifindex);
        datapath.detach_endpoint(DEVICE).unwrap();
        datapath.detach_endpoint(DEVICE).unwrap();
        let error = datapath.attach_endpoint("nosuch").await.unwrap_err();
        assert!(matches!(error, DatapathError::NoDevice(_)), "{error:?}");
    });
    assert_eq!(world.programs(DEVICE), [""; 0]);
    assert!(!world.paths().endpoint_link(DEVICE).exists());
}

/// Somebody removes pins: what is up without its program is taken down until it has one, and an
/// endpoint until it has its row as well.
#[test]
fn a_device_that_lost_its_program_is_closed() {
    let world = World::new();
    let container = Netns::new("box").unwrap();
    let ifindex = open_with_endpoint(&world, &container);
    // With its program it stays up, row or not: nobody but the store knows.
    world.open(XdpMode::Off).unwrap();
    assert!(world.is_up(DEVICE));

    let lose = || {
        for link in [ENDPOINT_LINK, "from_fallback"] {
            fs::remove_file(world.paths().links().join(link)).unwrap();
        }
        assert_eq!(world.programs(DEVICE), [""; 0]);
        assert!(world.is_up(DEVICE));
    };
    lose();
    world.open(XdpMode::Off).unwrap();
    assert_eq!(world.programs(DEVICE), ["from_endpoint"]);
    assert_eq!(world.programs("ovx0"), ["from_fallback"]);
    assert!(!world.is_up(DEVICE), "no row");
    assert!(world.is_up("ovx0"));

    world.host.ip(&["link", "set", DEVICE, "up"]).unwrap();
    lose();
    let row = Change::Endpoint(ifindex, Some(Box::default()));
    let mut tables = Datapath::maps_only(&world.paths()).unwrap();
    tables.apply(&row).unwrap();
    world.open(XdpMode::Off).unwrap();
    assert_eq!(world.programs(DEVICE), ["from_endpoint"]);
    assert!(world.is_up(DEVICE), "with its row");
}

/// Without programs, containers and tunnels are closed, not open to the host.
#[test]
fn programs_alone_are_detached_and_attached() {
    let world = World::new();
    let container = Netns::new("box").unwrap();
    let ifindex = open_with_endpoint(&world, &container);
    let row = Change::Endpoint(ifindex, Some(Box::default()));
    let mut tables = Datapath::maps_only(&world.paths()).unwrap();
    tables.apply(&row).unwrap();
    let detached = world.on_host(async || detach_programs(&world.paths()).await);
    assert!(detached.errors.is_empty(), "{:?}", detached.errors);
    assert_eq!(detached.removed.len(), 4, "{:?}", detached.removed);
    for device in [DEVICE, "ovx0"] {
        assert!(!world.is_up(device), "{device}");
        assert_eq!(world.programs(device), [""; 0], "{device}");
    }
    assert!(world.is_up(UNDERLAY));

    world.open(XdpMode::Off).unwrap();
    assert_eq!(world.programs(DEVICE), ["from_endpoint"]);
    for device in [DEVICE, "ovx0"] {
        assert!(world.is_up(device), "{device}");
    }
}

#[test]
fn maps_of_other_versions_go() {
    let world = World::new();
    let old = world.bpffs.path().join("v0/maps");
    fs::create_dir_all(&old).unwrap();
    let map = HashMap::<MapData, u32, u32>::create(1, 0).unwrap();
    map.pin(old.join("FDB")).unwrap();
    world.open(XdpMode::Off).unwrap();
    assert!(!world.bpffs.path().join("v0").exists());
    assert!(world.paths().map(maps::FDB).exists());
}
