//! Next hops, followed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use overlay_agent::host::nexthop::{NextHop, NextHopWatcher, NextHops};
use overlay_common::net::MacAddr;
use tests::netns::Netns;
use tokio::sync::watch::Receiver;
use tokio::time::timeout;

use super::world::{HOST_IP, NEIGHBOR_IP, UNDERLAY, World};
use crate::support::ask_neighbours_often;

/// The kernel looks after managed entries every 5 seconds.
const PATIENCE: Duration = Duration::from_secs(20);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn peers(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

fn is_managed(world: &World) -> bool {
    let entries = world.host.ip(&["-details", "neigh"]).unwrap();
    entries.contains("managed")
}

fn mac_of(netns: &Netns) -> MacAddr {
    let link: String = netns.ip(&["-brief", "link", "show", UNDERLAY]).unwrap();
    link.split_whitespace().nth(2).unwrap().parse().unwrap()
}

/// Waits until the way to a peer is as wanted.
async fn until(
    hops: &mut Receiver<NextHops>,
    peer: &str,
    wanted: impl Fn(Option<&NextHop>) -> bool,
) -> Option<NextHop> {
    let peer = ip(peer);
    let waited = timeout(PATIENCE, hops.wait_for(|hops| wanted(hops.get(&peer)))).await;
    let found = waited.map(|hops| hops.unwrap().get(&peer).copied());
    found.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {peer}"))
}

#[test]
fn resolved_without_traffic_and_followed() {
    let world = World::new();
    // Announces the changed address, as a bonded or failed-over peer does.
    world
        .neighbor
        .sysctl("net.ipv4.conf.eth0.arp_notify", "1")
        .unwrap();
    let (here, there) = (mac_of(&world.host), mac_of(&world.neighbor));
    world.on_host(async || {
        let watcher = NextHopWatcher::spawn(ip(HOST_IP).into()).unwrap();
        let mut hops = watcher.subscribe();
        watcher.set_peers(peers(&[NEIGHBOR_IP]));
        let hop = until(&mut hops, NEIGHBOR_IP, |hop| {
            hop.is_some_and(|hop| hop.mac.is_some())
        })
        .await
        .unwrap();
        assert_eq!(hop.mac, Some(there));
        assert_eq!((hop.source_mac, hop.source_ip), (here, ip(HOST_IP)));
        assert_eq!(hop.mtu, 1500);
        assert!(is_managed(&world));

        let new = "02:00:00:00:00:99";
        world
            .neighbor
            .ip(&["link", "set", UNDERLAY, "address", new])
            .unwrap();
        until(&mut hops, NEIGHBOR_IP, |hop| {
            hop.is_some_and(|hop| hop.mac == new.parse().ok())
        })
        .await;

        world
            .host
            .ip(&["link", "set", UNDERLAY, "mtu", "1400"])
            .unwrap();
        until(&mut hops, NEIGHBOR_IP, |hop| {
            hop.is_some_and(|hop| hop.mtu == 1400)
        })
        .await;

        world.host.ip(&["link", "set", UNDERLAY, "down"]).unwrap();
        until(&mut hops, NEIGHBOR_IP, |hop| hop.is_none()).await;
        world.host.ip(&["link", "set", UNDERLAY, "up"]).unwrap();
        until(&mut hops, NEIGHBOR_IP, |hop| {
            hop.is_some_and(|hop| hop.mac.is_some())
        })
        .await;

        // Somebody flushes the table: the entry is there again, without traffic.
        world.host.ip(&["neigh", "flush", "dev", UNDERLAY]).unwrap();
        timeout(PATIENCE, async {
            while !is_managed(&world) {
                hops.changed().await.unwrap();
            }
        })
        .await
        .unwrap();
        until(&mut hops, NEIGHBOR_IP, |hop| {
            hop.is_some_and(|hop| hop.mac.is_some())
        })
        .await;

        watcher.set_peers(BTreeSet::new());
        until(&mut hops, NEIGHBOR_IP, |hop| hop.is_none()).await;
        assert!(!is_managed(&world));
    });
}

/// A next hop that falls silent is no longer written into headers: the kernel resolves it, or not,
/// for each frame. Nothing is sent here: the kernel finds out because the entry is managed.
#[test]
fn a_silent_neighbour_is_no_longer_resolved() {
    let world = World::new();
    ask_neighbours_often(&world.host).unwrap();
    let there = mac_of(&world.neighbor);
    world.on_host(async || {
        let watcher = NextHopWatcher::spawn(ip(HOST_IP).into()).unwrap();
        let mut hops = watcher.subscribe();
        watcher.set_peers(peers(&[NEIGHBOR_IP]));
        let resolved = |hop: Option<&NextHop>| hop.is_some_and(|hop| hop.mac == Some(there));
        until(&mut hops, NEIGHBOR_IP, resolved).await;
        for (arp, wanted) in [("off", false), ("on", true)] {
            world
                .neighbor
                .ip(&["link", "set", UNDERLAY, "arp", arp])
                .unwrap();
            until(&mut hops, NEIGHBOR_IP, |hop| {
                hop.is_some_and(|hop| hop.mac.is_some() == wanted)
            })
            .await;
        }
    });
}

#[test]
fn routes_are_followed() {
    let world = World::new();
    let far = "198.51.100.7";
    world
        .neighbor
        .ip(&["address", "add", "192.0.2.3/24", "dev", UNDERLAY])
        .unwrap();
    let there = mac_of(&world.neighbor);
    world.on_host(async || {
        let watcher = NextHopWatcher::spawn(ip(HOST_IP).into()).unwrap();
        let mut hops = watcher.subscribe();
        // This host itself is no peer to tunnel to.
        watcher.set_peers(peers(&[far, NEIGHBOR_IP, HOST_IP]));
        until(&mut hops, NEIGHBOR_IP, |hop| hop.is_some()).await;
        assert_eq!(hops.borrow().keys().collect::<Vec<_>>(), [&ip(NEIGHBOR_IP)]);

        let route = [
            "route",
            "add",
            "198.51.100.0/24",
            "via",
            "192.0.2.3",
            "mtu",
            "1300",
        ];
        world.host.ip(&route).unwrap();
        let hop = until(&mut hops, far, |hop| {
            hop.is_some_and(|hop| hop.mac.is_some())
        })
        .await
        .unwrap();
        assert_eq!((hop.mac, hop.mtu), (Some(there), 1300));

        world
            .host
            .ip(&["route", "delete", "198.51.100.0/24"])
            .unwrap();
        until(&mut hops, far, |hop| hop.is_none()).await;
    });
}

#[test]
fn the_other_device_when_one_goes_down() {
    let world = World::new();
    world.host.connect("eth1", &world.neighbor, "eth1").unwrap();
    for (netns, address) in [
        (&world.host, "203.0.113.1/24"),
        (&world.neighbor, "203.0.113.2/24"),
    ] {
        netns
            .ip(&["address", "add", address, "dev", "eth1"])
            .unwrap();
    }
    let far = "198.51.100.7";
    for (via, metric) in [(NEIGHBOR_IP, "100"), ("203.0.113.2", "200")] {
        let route = ["route", "add", "198.51.100.0/24", "via", via];
        world
            .host
            .ip(&[route.as_slice(), &["metric", metric]].concat())
            .unwrap();
    }
    world.on_host(async || {
        let watcher = NextHopWatcher::spawn(ip("203.0.113.1").into()).unwrap();
        let mut hops = watcher.subscribe();
        watcher.set_peers(peers(&[far]));
        let first = until(&mut hops, far, |hop| hop.is_some()).await.unwrap();
        // The kernel does not announce that this takes a route away.
        world.host.ip(&["link", "set", UNDERLAY, "down"]).unwrap();
        until(&mut hops, far, |hop| {
            hop.is_some_and(|hop| hop.ifindex != first.ifindex && hop.mac.is_some())
        })
        .await;
    });
}

#[test]
fn an_administrators_entry_stays() {
    let world = World::new();
    let args = [
        "neigh",
        "add",
        NEIGHBOR_IP,
        "lladdr",
        "02:00:00:00:00:77",
        "dev",
        UNDERLAY,
    ];
    world.host.ip(&args).unwrap();
    world.on_host(async || {
        let watcher = NextHopWatcher::spawn(ip(HOST_IP).into()).unwrap();
        let mut hops = watcher.subscribe();
        watcher.set_peers(peers(&[NEIGHBOR_IP]));
        let hop = until(&mut hops, NEIGHBOR_IP, |hop| hop.is_some())
            .await
            .unwrap();
        assert_eq!(hop.mac, "02:00:00:00:00:77".parse().ok());
        watcher.set_peers(BTreeSet::new());
        until(&mut hops, NEIGHBOR_IP, |hop| hop.is_none()).await;
    });
    let entry = world.host.ip(&["-details", "neigh"]).unwrap();
    assert!(
        entry.contains("PERMANENT") && !entry.contains("managed"),
        "{entry}"
    );
}
