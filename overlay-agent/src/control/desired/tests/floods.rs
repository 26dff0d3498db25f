//! Networks that flood.

use overlay_common::layout::FLOOD_MAX;
use overlay_common::layout::FloodMode as Mode;

use super::*;

const GROUP: &str = "239.1.2.3";

/// Two hosts on a network of this mode, and another network that drops.
fn flooding(mode: &str) -> Fixture {
    let mut fixture = Fixture::two_hosts();
    fixture.network("red", 43);
    fixture.local("r", 43, 13);
    fixture.remote("n2", 43, "s", 14);
    fixture.networks.get_mut("blue").unwrap().flood = mode.parse().unwrap();
    fixture
}

fn group() -> IpAddr {
    GROUP.parse().unwrap()
}

fn multicast() -> Fixture {
    let mut fixture = flooding(&format!("multicast={GROUP}"));
    fixture.next_hop_to(group(), 99);
    fixture
}

#[test]
fn drop_has_no_lists() {
    let rows = flooding("drop").desired(&Rows::default()).rows;
    assert!(rows.floods.is_empty());
    assert_eq!(rows.vnis[&42].flood, Mode::Drop as u32);
    assert_eq!(rows.endpoints[&10].flags & endpoint_flags::FLOODS, 0);
}

#[test]
fn replicate_lists_the_hosts_and_the_endpoints_here() {
    let mut fixture = flooding("replicate");
    fixture.local("c", 42, 12);
    fixture.remote("n2", 42, "d", 15);
    // Without an endpoint on the network, no copy.
    fixture.node("n3", 3);
    fixture.next_hop(3);
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert_eq!(problems, []);
    let peer = rows.peers[&key(2)].index;
    let stats = |peer| rows.stats_index[&StatsKey { vni: 42, peer }];
    let list = &rows.floods[&42];
    assert_eq!(list.locals, [10, 12]);
    assert_eq!(list.local_stats, stats(0));
    let [receiver] = list.peers[..] else {
        panic!("{list:?}");
    };
    assert_eq!((receiver.peer, receiver.stats), (peer, stats(peer)));
    assert_eq!(rows.vnis[&42].flood, Mode::Replicate as u32);
    assert_eq!(rows.vnis[&42].flood_rate, 1000);
    let floods = |ifindex| rows.endpoints[&ifindex].flags & endpoint_flags::FLOODS != 0;
    assert!(floods(10) && floods(12) && !floods(13));
    assert!(!rows.floods.contains_key(&43));
}

#[test]
fn multicast_has_one_tunnel_to_the_group() {
    let Desired { rows, problems, .. } = multicast().desired(&Rows::default());
    assert_eq!(problems, []);
    let network = rows.vnis[&42];
    assert_eq!(IpAddr::from(network.group), group());
    let tunnel = rows.tunnels[&network.flood_tunnel];
    assert_eq!(destination(&tunnel), group());
    let [receiver] = rows.floods[&42].peers[..] else {
        panic!("{:?}", rows.floods[&42]);
    };
    assert_eq!(receiver.peer, network.flood_tunnel);
    let pair = StatsKey {
        vni: 42,
        peer: receiver.peer,
    };
    assert_eq!(rows.stats_index[&pair], receiver.stats);
    assert_eq!(groups(&rows), [group()].into());
    // A group is nobody to receive from.
    assert!(rows.peers.values().all(|peer| peer.index != receiver.peer));
}

/// Of a group of the family whose headers are longer, the network that floods to it pays for them.
/// Nobody would compute their checksum.
#[test]
fn a_group_of_ipv6_on_a_host_of_both_families() {
    let group: IpAddr = "ff05::1:3".parse().unwrap();
    let mut fixture = flooding(&format!("multicast={group}"));
    fixture.vteps.ip6 = Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    fixture.outer.udp_checksum = true;
    fixture.next_hop_to(group, 99);
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert_eq!(problems, []);
    assert_eq!((rows.vnis[&42].mtu, rows.vnis[&43].mtu), (1430, 1450));
    let tunnel = rows.tunnels[&rows.vnis[&42].flood_tunnel];
    assert_eq!((tunnel.header_len, destination(&tunnel)), (70, group));
    assert_eq!(tunnel.flags & tunnel_flags::UDP_CHECKSUM, 0);
    let peer = rows.tunnels[&rows.peers[&key(2)].index];
    assert_ne!(peer.flags & tunnel_flags::UDP_CHECKSUM, 0);
}

#[test]
fn networks_share_a_groups_tunnel_and_it_keeps_its_index() {
    let mut fixture = multicast();
    let before = fixture.desired(&Rows::default()).rows;
    fixture.networks.get_mut("red").unwrap().flood = format!("multicast={GROUP}").parse().unwrap();
    for host in 3..20 {
        fixture.node(&format!("n{host}"), host);
        fixture.next_hop(host);
    }
    let after = fixture.desired(&before).rows;
    let index = before.vnis[&42].flood_tunnel;
    assert_eq!(after.vnis[&42].flood_tunnel, index);
    assert_eq!(after.vnis[&43].flood_tunnel, index);
    assert_eq!(fixture.desired(&after).rows, after);
}

#[test]
fn a_group_without_a_way_is_told_and_floods_here() {
    let mut fixture = multicast();
    fixture.next_hops.remove(&group());
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert_eq!(problems, [Problem::NoGroupRoute { group: group() }]);
    assert_eq!(rows.floods[&42].locals, [10]);
    assert!(!rows.tunnels.contains_key(&rows.vnis[&42].flood_tunnel));
}

#[test]
fn a_network_that_is_unreadable_floods_on() {
    let mut fixture = multicast();
    let before = fixture.desired(&Rows::default()).rows;
    fixture.networks.remove("blue");
    let Desired { rows, problems, .. } = fixture.desired(&before);
    assert_eq!(problems, [Problem::NoNetwork { vni: vni(42) }]);
    assert_eq!(rows, before);
}

#[test]
fn too_many_receivers_are_told() {
    let mut fixture = flooding("replicate");
    for n in 0..FLOOD_MAX as u32 {
        let id: EndpointId = format!("{:016x}", 0x1_0000 + n).parse().unwrap();
        let local = Local {
            ifindex: 1000 + n,
            mac: MacAddr([2, 0x43, 0, 0, (n >> 8) as u8, n as u8]),
            ip4: None,
            ..fixture.local[&endpoint_id("a")].clone()
        };
        fixture.local.insert(id, local);
    }
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    let problem = Problem::TooManyToFlood {
        vni: vni(42),
        what: "endpoints of this host",
        count: FLOOD_MAX + 1,
        max: FLOOD_MAX,
    };
    assert_eq!(problems, [problem]);
    assert_eq!(rows.floods[&42].locals.len(), FLOOD_MAX);
}
