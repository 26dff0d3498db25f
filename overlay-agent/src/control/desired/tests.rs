mod floods;

use overlay_common::layout::{
    PeerValue, StatsKey, TunnelValue, endpoint_flags, fdb_flags, neighbor_flags, tunnel_flags,
    vni_flags,
};
use overlay_common::net::IpKey;
use overlay_common::packet::encap::{destination, source};
use proptest::prelude::*;

use super::*;
use crate::control::plan;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A world to change and to look at.
#[derive(Clone)]
struct Fixture {
    vteps: Vteps,
    outer: Outer,
    networks: BTreeMap<String, NetworkRecord>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    endpoints: BTreeMap<EndpointPath, EndpointRecord>,
    local: BTreeMap<EndpointId, Local>,
    next_hops: BTreeMap<IpAddr, NextHop>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            vteps: Vteps::from(IpAddr::from(OWN)),
            outer: Outer {
                ttl: 64,
                dscp: Dscp::Fixed(0),
                udp_checksum: false,
            },
            networks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            local: BTreeMap::new(),
            next_hops: BTreeMap::new(),
        }
    }
}

impl Fixture {
    /// Network `blue` (VNI 42), nodes `n1` (this one) and `n2`, one endpoint on each.
    fn two_hosts() -> Self {
        let mut fixture = Self::default();
        fixture.network("blue", 42);
        fixture.node("n1", 1);
        fixture.node("n2", 2);
        fixture.local("a", 42, 10);
        fixture.remote("n2", 42, "b", 11);
        fixture.next_hop(2);
        fixture
    }

    fn network(&mut self, name: &str, number: u32) {
        let json = serde_json::json!({"vni": number, "subnets": ["10.0.0.0/16"], "flood": "drop", "options": {}});
        self.networks
            .insert(name.into(), serde_json::from_value(json).unwrap());
    }

    fn node(&mut self, id: &str, host: u8) {
        let json = serde_json::json!({"name": format!("host-{id}"), "vteps": [ip(host)], "port": 4789, "version": "1", "agent": true});
        self.nodes
            .insert(NodeId::of_name(id), serde_json::from_value(json).unwrap());
    }

    fn vteps(&mut self, id: &str, addresses: &[IpAddr]) {
        let node = self.nodes.get_mut(&NodeId::of_name(id)).unwrap();
        node.vteps = addresses.to_vec();
    }

    fn local(&mut self, id: &str, number: u32, host: u8) {
        let local = Local {
            vni: vni(number),
            ifindex: u32::from(host),
            mac: mac(host),
            ip4: Some([10, 0, 0, host].into()),
            ip6: None,
            allow_ips: Vec::new(),
            forwards: false,
        };
        self.local.insert(endpoint_id(id), local);
    }

    fn remote(&mut self, node: &str, number: u32, id: &str, host: u8) {
        self.remote_with(node, number, id, host, host);
    }

    /// With the MAC of another host's number.
    fn remote_with(&mut self, node: &str, number: u32, id: &str, host: u8, mac_of: u8) {
        let path = EndpointPath {
            node: NodeId::of_name(node),
            net: vni(number),
            id: endpoint_id(id),
        };
        let json = serde_json::json!({"ip4": Ipv4Addr::from([10, 0, 0, host]), "mac": mac(mac_of), "name": id});
        self.endpoints
            .insert(path, serde_json::from_value(json).unwrap());
    }

    fn next_hop(&mut self, host: u8) {
        self.next_hop_to(ip(host).into(), host);
    }

    fn next_hop_to(&mut self, address: IpAddr, host: u8) {
        let hop = NextHop {
            ifindex: 7,
            source_mac: mac(100),
            source_ip: OWN.into(),
            mtu: 1500,
            mac: Some(mac(host)),
        };
        self.next_hops.insert(address, hop);
    }

    fn desired(&self, current: &Rows) -> Desired {
        desired(
            &World {
                node: NodeId::of_name("n1"),
                name: "host-n1",
                vteps: self.vteps,
                port: 4789,
                outer: self.outer,
                underlay_mtu: 1500,
                networks: &self.networks,
                nodes: &self.nodes,
                endpoints: &self.endpoints,
                local: &self.local,
                next_hops: &self.next_hops,
            },
            current,
        )
    }
}

fn ip(host: u8) -> Ipv4Addr {
    [192, 0, 2, host].into()
}

/// `fd00::host`
fn ip6(host: u8) -> IpAddr {
    let mut bytes = [0; 16];
    (bytes[0], bytes[15]) = (0xfd, host);
    bytes.into()
}

fn key(host: u8) -> IpKey {
    IpAddr::from(ip(host)).into()
}

fn mac(host: u8) -> MacAddr {
    MacAddr([2, 0x42, 0, 0, 0, host])
}

/// An id for a letter; the order is the letters'.
fn endpoint_id(letter: &str) -> EndpointId {
    let digits = u64::from(letter.as_bytes()[0]);
    format!("{digits:016x}").parse().unwrap()
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

#[test]
fn two_hosts_on_one_network() {
    let Desired { rows, problems, .. } = Fixture::two_hosts().desired(&Rows::default());
    assert_eq!(problems, []);
    let peer = rows.peers[&key(2)].index;
    assert_eq!(rows.peers.len(), 1, "this host is no peer of its own");

    let tunnel = rows.tunnels[&peer];
    assert_eq!(destination(&tunnel), IpAddr::from(ip(2)));
    assert_eq!(source(&tunnel), IpAddr::from(OWN));
    assert_eq!(
        (tunnel.ifindex, tunnel.mtu, tunnel.flags),
        (7, 1500, tunnel_flags::RESOLVED)
    );

    let here = rows.fdb[&FdbKey::new(42, mac(10))];
    let there = rows.fdb[&FdbKey::new(42, mac(11))];
    assert_eq!((here.ifindex, here.peer), (10, 0));
    assert_eq!((there.ifindex, there.peer), (0, peer));
    assert_ne!(here.stats, there.stats);
    assert_eq!(rows.stats_index[&StatsKey { vni: 42, peer }], there.stats);
    assert_eq!(rows.stats_index[&StatsKey { vni: 42, peer: 0 }], here.stats);

    assert_eq!(rows.neighbors.len(), 2);
    assert_eq!(rows.vnis[&42].mtu, 1450);
    let endpoint = rows.endpoints[&10];
    assert_eq!(
        (endpoint.vni, endpoint.mtu, endpoint.ip4),
        (42, 1450, [10, 0, 0, 10])
    );
}

#[test]
fn a_network_without_local_endpoint_has_no_rows() {
    let mut fixture = Fixture::two_hosts();
    fixture.local.clear();
    let rows = fixture.desired(&Rows::default()).rows;
    assert!(rows.vnis.is_empty() && rows.fdb.is_empty() && rows.neighbors.is_empty());
    assert!(rows.stats_index.is_empty());
    assert_eq!(rows.peers.len(), 1, "every host keeps its peer");
    assert_eq!(rows.tunnels.len(), 1);
}

#[test]
fn without_route_there_is_no_tunnel_and_without_neighbour_no_mac() {
    let mut fixture = Fixture::two_hosts();
    fixture.next_hops.get_mut(&ip(2).into()).unwrap().mac = None;
    let rows = fixture.desired(&Rows::default()).rows;
    let tunnel = rows.tunnels.values().next().unwrap();
    assert_eq!((tunnel.flags, &tunnel.header[..6]), (0, &[0; 6][..]));
    fixture.next_hops.clear();
    let rows = fixture.desired(&Rows::default()).rows;
    assert!(rows.tunnels.is_empty());
    assert_eq!(
        rows.fdb.len(),
        2,
        "its endpoints stay known: a drop then says no route"
    );
}

#[test]
fn mtu_is_the_smaller() {
    assert_eq!(network_mtu(None, 1500, OVERHEAD), 1450);
    assert_eq!(network_mtu(None, 1500, OVERHEAD_V6), 1430);
    assert_eq!(network_mtu(Some(1300), 1500, OVERHEAD), 1300);
    assert_eq!(network_mtu(Some(9000), 1500, OVERHEAD), 1450);
}

#[test]
fn a_tunnel_is_of_a_family_that_both_have() {
    let v4 = Vteps::from(IpAddr::from(OWN));
    let v6 = Vteps::from(ip6(1));
    let both = v4.with(ip6(1));
    for (own, theirs, wanted) in [
        (both, &[ip6(2), ip(2).into()][..], Some(ip(2).into())),
        (both, &[ip6(2)], Some(ip6(2))),
        (both, &[ip(2).into()], Some(ip(2).into())),
        (v6, &[ip(2).into(), ip6(2)], Some(ip6(2))),
        (v4, &[ip6(2), ip(2).into()], Some(ip(2).into())),
        (v4, &[ip6(2)], None),
        (v6, &[ip(2).into()], None),
    ] {
        let what = format!("{own} to {theirs:?}");
        let mut fixture = Fixture::two_hosts();
        fixture.vteps = own;
        fixture.vteps("n2", theirs);
        theirs.iter().for_each(|ip| fixture.next_hop_to(*ip, 2));
        let found = fixture.desired(&Rows::default());
        let rows = &found.rows;
        let Some(wanted) = wanted else {
            assert!(rows.tunnels.is_empty() && rows.peers.is_empty(), "{what}");
            let (mine, its) = if own == v4 {
                ("IPv4", "IPv6")
            } else {
                ("IPv6", "IPv4")
            };
            let line = found.problems[0].to_string();
            assert!(
                line.starts_with(&format!(
                    "node host-n2 ({its}) and this host host-n1 ({mine}) "
                )) && line.contains("without a common underlay family"),
                "{what}: {line}"
            );
            continue;
        };
        assert_eq!(found.problems, [], "{what}");
        // It may send from each of its addresses.
        assert_eq!(rows.peers.len(), theirs.len(), "{what}");
        let (index, tunnel) = rows.tunnels.first_key_value().unwrap();
        assert!(
            rows.peers.values().all(|peer| peer.index == *index),
            "{what}"
        );
        assert_eq!(destination(tunnel), wanted, "{what}");
        assert_eq!(Some(source(tunnel)), own.towards(wanted), "{what}");
        let (len, family, mtu) = if wanted.is_ipv6() {
            (70, tunnel_flags::IPV6, 1430)
        } else {
            (50, 0, 1450)
        };
        assert_eq!(tunnel.header_len, len, "{what}");
        assert_eq!(tunnel.flags, tunnel_flags::RESOLVED | family, "{what}");
        assert_eq!(rows.vnis[&42].mtu, mtu, "{what}");
        assert_eq!(fixture.desired(rows), found, "{what}: settled");
    }
}

#[test]
fn own_addresses_of_either_family_are_no_peers() {
    let mut fixture = Fixture::two_hosts();
    fixture.vteps = fixture.vteps.with(ip6(1));
    fixture.vteps("n2", &[ip6(1), ip(2).into()]);
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert_eq!(rows.peers.keys().collect::<Vec<_>>(), [&key(2)]);
    assert!(
        matches!(&problems[..], [Problem::OwnAddress { ip, .. }] if *ip == ip6(1)),
        "{problems:?}"
    );
}

#[test]
fn settings_reach_the_outer_headers() {
    let mut fixture = Fixture::two_hosts();
    let tunnel = |fixture: &Fixture| {
        let rows = fixture.desired(&Rows::default()).rows;
        *rows.tunnels.values().next().unwrap()
    };
    let plain = tunnel(&fixture);
    assert_eq!((plain.header[15], plain.header[22]), (0, 64));
    fixture.outer = Outer {
        ttl: 9,
        dscp: Dscp::Fixed(46),
        udp_checksum: true,
    };
    let marked = tunnel(&fixture);
    assert_eq!((marked.header[15], marked.header[22]), (46 << 2, 9));
    assert_eq!(marked.flags, plain.flags | tunnel_flags::UDP_CHECKSUM);
    fixture.outer.dscp = Dscp::Inherit;
    let copied = tunnel(&fixture);
    assert_eq!(copied.header[15], 0);
    assert_eq!(copied.flags, marked.flags | tunnel_flags::COPY_DSCP);
}

#[test]
fn a_peer_keeps_its_index_when_another_goes() {
    let mut fixture = Fixture::two_hosts();
    fixture.node("n3", 3);
    let before = fixture.desired(&Rows::default()).rows;
    fixture.nodes.remove(&NodeId::of_name("n2"));
    let mut after = fixture.desired(&before).rows;
    assert_eq!(after.peers[&key(3)], before.peers[&key(3)]);
    // The index of the one that went is not given away in the same step, but later.
    fixture.node("n4", 4);
    let step = fixture.desired(&before).rows;
    assert_ne!(step.peers[&key(4)], before.peers[&key(2)]);
    after = fixture.desired(&after).rows;
    assert_eq!(after.peers[&key(4)], before.peers[&key(2)]);
}

#[test]
fn counters_stay_while_network_and_peer_do() {
    let mut fixture = Fixture::two_hosts();
    let before = fixture.desired(&Rows::default()).rows;
    fixture.endpoints.clear();
    let after = fixture.desired(&before).rows;
    assert_eq!(after.stats_index, before.stats_index);
    fixture.nodes.remove(&NodeId::of_name("n2"));
    let after = fixture.desired(&before).rows;
    assert_eq!(after.stats_index.len(), 1);
}

#[test]
fn generation_grows_when_an_endpoint_moves() {
    let mut fixture = Fixture::two_hosts();
    let before = fixture.desired(&Rows::default()).rows;
    assert_eq!(fixture.desired(&before).rows, before);
    fixture.endpoints.clear();
    fixture.node("n3", 3);
    fixture.remote("n3", 42, "b", 11);
    let after = fixture.desired(&before).rows;
    assert_eq!(after.fdb[&FdbKey::new(42, mac(11))].generation, 1);
    assert_eq!(after.fdb[&FdbKey::new(42, mac(10))].generation, 0);
}

#[test]
fn our_own_address_is_no_peer() {
    let mut fixture = Fixture::two_hosts();
    fixture.node("n3", 1);
    fixture.remote("n3", 42, "c", 12);
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert!(!rows.peers.contains_key(&key(1)));
    assert!(!rows.fdb.contains_key(&FdbKey::new(42, mac(12))));
    assert!(matches!(&problems[..], [Problem::OwnAddress { node, .. }] if node == "host-n3"));
}

#[test]
fn two_nodes_with_one_address_are_one_peer() {
    let mut fixture = Fixture::two_hosts();
    fixture.node("n3", 2);
    fixture.remote("n3", 42, "c", 12);
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert_eq!(rows.peers.len(), 1);
    let peer = |host| rows.fdb[&FdbKey::new(42, mac(host))].peer;
    assert_eq!(peer(11), peer(12));
    assert!(matches!(&problems[..], [Problem::SharedAddress { .. }]));
}

#[test]
fn two_endpoints_with_one_address() {
    let mut fixture = Fixture::two_hosts();
    fixture.remote("n2", 42, "c", 10);
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert_eq!(
        rows.fdb[&FdbKey::new(42, mac(10))].ifindex,
        10,
        "this host's goes first"
    );
    assert!(
        matches!(&problems[..], [Problem::DuplicateMac { dropped, .. }] if *dropped == endpoint_id("c"))
    );

    let mut fixture = Fixture::two_hosts();
    fixture.remote("n2", 42, "c", 12);
    fixture
        .endpoints
        .values_mut()
        .for_each(|e| e.ip4 = Some([10, 0, 0, 9].into()));
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    let ip = IpAddr::from([10, 0, 0, 9]).into();
    assert_eq!(rows.neighbors[&NeighborKey { vni: 42, ip }].mac, mac(11));
    assert!(
        matches!(&problems[..], [Problem::DuplicateIp { kept, .. }] if *kept == endpoint_id("b"))
    );
}

#[test]
fn gateways_are_neighbours_whose_frames_are_routed() {
    let mut fixture = Fixture::two_hosts();
    let json = serde_json::json!({
        "vni": 42, "subnets": ["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"],
        "gateway": "10.0.1.1", "options": {"gateways": ["10.0.0.1", "fd00::1"]},
    });
    let record: NetworkRecord = serde_json::from_value(json).unwrap();
    fixture.networks.insert("blue".into(), record);
    fixture
        .local
        .values_mut()
        .for_each(|local| local.ip6 = Some("fd00::a".parse().unwrap()));
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert_eq!(problems, []);
    // 02, `ov`, the VNI: a contract between hosts.
    let mac = MacAddr([0x02, 0x6f, 0x76, 0, 0, 42]);
    for ip in ["10.0.0.1", "10.0.1.1", "fd00::1"] {
        let ip = ip.parse::<IpAddr>().unwrap().into();
        let row = rows.neighbors[&NeighborKey { vni: 42, ip }];
        assert_eq!((row.mac, row.flags), (mac, neighbor_flags::ROUTER));
    }
    let row = rows.fdb[&FdbKey::new(42, mac)];
    assert_eq!(
        (row.ifindex, row.peer, row.vni, row.flags),
        (0, 0, 42, fdb_flags::GATEWAY)
    );
    assert_eq!(rows.stats_index[&StatsKey { vni: 42, peer: 0 }], row.stats);
    assert_eq!((rows.vnis[&42].gateway_mac, rows.vnis[&42].flags), (mac, 0));
    let endpoint = rows.endpoints[&10];
    assert_eq!(endpoint.gateway4, [10, 0, 0, 1], "that of its own subnet");
    assert_eq!(IpAddr::from(endpoint.gateway6).to_string(), "fd00::1");

    // Somebody wrote an endpoint with a gateway's address into the store.
    let taken: Ipv4Addr = [10, 0, 0, 1].into();
    fixture
        .endpoints
        .values_mut()
        .for_each(|record| record.ip4 = Some(taken));
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    let ip = IpAddr::from(taken).into();
    assert_eq!(rows.neighbors[&NeighborKey { vni: 42, ip }].mac, mac);
    assert!(matches!(&problems[..], [Problem::GatewayTaken { .. }]));
}

#[test]
fn a_network_without_gateway_has_none_in_the_rows() {
    let rows = Fixture::two_hosts().desired(&Rows::default()).rows;
    assert_eq!(rows.vnis[&42].gateway_mac, MacAddr::default());
    assert!(rows.fdb.values().all(|row| row.flags == 0));
    assert_eq!(rows.endpoints[&10].gateway4, [0; 4]);
}

#[test]
fn options_of_a_network() {
    let mut fixture = Fixture::two_hosts();
    let record = fixture.networks.get_mut("blue").unwrap();
    record.options.internal = true;
    record.options.vlan = true;
    record.flood = FloodMode::Replicate;
    let rows = fixture.desired(&Rows::default()).rows;
    assert_eq!(rows.vnis[&42].flags, vni_flags::INTERNAL | vni_flags::VLAN);
    let flags = endpoint_flags::FLOODS | endpoint_flags::VLAN;
    assert_eq!(rows.endpoints[&10].flags, flags);
}

#[test]
fn what_an_endpoint_may_send_from_besides_its_own() {
    let mut fixture = Fixture::two_hosts();
    let local = fixture.local.values_mut().next().unwrap();
    local.allow_ips = ["10.0.0.99/32", "192.168.0.0/16", "fd00:9::/48"]
        .map(|p| p.parse().unwrap())
        .into();
    local.forwards = true;
    let rows = fixture.desired(&Rows::default()).rows;
    assert_eq!(rows.endpoints[&10].flags, endpoint_flags::ALLOWED);
    assert_eq!(
        rows.fdb[&FdbKey::new(42, mac(10))].flags,
        fdb_flags::FORWARDS
    );
    assert_eq!(rows.fdb[&FdbKey::new(42, mac(11))].flags, 0);
    let allowed: Vec<_> = rows
        .allowed
        .keys()
        .map(|allowed| {
            (
                allowed.key.ifindex,
                IpAddr::from(allowed.key.ip).to_string(),
                allowed.prefix_len,
            )
        })
        .collect();
    // 32 bits of ifindex; IPv4 is 96 bits into the address.
    for row in [
        (10, "10.0.0.99", 160),
        (10, "192.168.0.0", 144),
        (10, "fd00:9::", 80),
    ] {
        assert!(
            allowed.contains(&(row.0, row.1.to_owned(), row.2)),
            "{row:?}: {allowed:?}"
        );
    }
    assert_eq!(allowed.len(), 3);
}

#[test]
fn an_mtu_that_the_underlay_cannot_carry() {
    let mut fixture = Fixture::two_hosts();
    fixture.networks.get_mut("blue").unwrap().mtu = Some(8000);
    let Desired { rows, problems, .. } = fixture.desired(&Rows::default());
    assert_eq!(rows.vnis[&42].mtu, 1450);
    let wanted = Problem::UnderlayMtu {
        network: "blue".into(),
        wanted: 8000,
        underlay: 1500,
        mtu: 1450,
    };
    assert_eq!(problems, [wanted]);
}

#[test]
fn an_unknown_node_is_reported_and_an_unreadable_network_keeps_its_row() {
    let mut fixture = Fixture::two_hosts();
    fixture.remote("n9", 42, "c", 12);
    fixture.networks.get_mut("blue").unwrap().mtu = Some(1300);
    let before = fixture.desired(&Rows::default());
    assert!(matches!(
        &before.problems[..],
        [Problem::UnknownNode { .. }]
    ));
    fixture.networks.clear();
    fixture.endpoints.pop_last();
    let after = fixture.desired(&before.rows);
    assert_eq!(after.rows.vnis, before.rows.vnis);
    assert_eq!(after.problems, [Problem::NoNetwork { vni: vni(42) }]);
}

#[test]
fn an_index_that_cannot_be_ours_is_replaced() {
    let fixture = Fixture::two_hosts();
    let mut current = Rows::default();
    current.peers.insert(key(2), PeerValue { index: 0 });
    let rows = fixture.desired(&current).rows;
    assert_ne!(rows.peers[&key(2)].index, 0);
    // Two addresses behind one index, as drift could leave it: the tunnel says whose it is.
    fixture.desired(&Rows::default());
    let mut drifted = rows.clone();
    let index = rows.peers[&key(2)].index;
    drifted.peers.insert(key(3), PeerValue { index });
    let mut fixture = fixture;
    fixture.node("n3", 3);
    let repaired = fixture.desired(&drifted).rows;
    assert_eq!(repaired.peers[&key(2)].index, index);
    assert_ne!(repaired.peers[&key(3)].index, index);
}

#[test]
fn an_index_that_anything_refers_to_is_not_given_away() {
    let fixture = Fixture::two_hosts();
    let rows = fixture.desired(&Rows::default()).rows;
    let index = rows.peers[&key(2)].index;
    for current in [
        Rows {
            tunnels: rows.tunnels.clone(),
            ..Rows::default()
        },
        Rows {
            stats_index: rows.stats_index.clone(),
            ..Rows::default()
        },
    ] {
        assert_ne!(fixture.desired(&current).rows.peers[&key(2)].index, index);
    }
}

proptest! {
    /// Whatever the store says, the rows hang together, and a second look changes nothing.
    #[test]
    fn consistent_and_settled(
        nodes in proptest::collection::btree_map("n[1-6]", 1u8..6, 0..6),
        remote in proptest::collection::vec(("n[1-6]", 1u32..4, "[a-f]", 1u8..9), 0..12),
        local in proptest::collection::btree_map("[g-j]", (1u32..4, 1u8..9), 0..4),
        hops in proptest::collection::vec(1u8..6, 0..6),
        gone in "n[1-6]",
    ) {
        let mut fixture = Fixture::default();
        fixture.network("one", 1);
        fixture.network("two", 2);
        nodes.iter().for_each(|(id, host)| fixture.node(id, *host));
        remote.iter().for_each(|(node, number, id, host)| fixture.remote(node, *number, id, *host));
        local.iter().for_each(|(id, (number, host))| fixture.local(id, *number, *host));
        // Interfaces are distinct, whatever their addresses.
        fixture.local.values_mut().zip(1..).for_each(|(local, ifindex)| local.ifindex = ifindex);
        hops.iter().for_each(|host| fixture.next_hop(*host));
        let first = fixture.desired(&Rows::default());
        hang_together(&first.rows);
        prop_assert_eq!(&fixture.desired(&first.rows), &first);

        fixture.nodes.remove(&NodeId::of_name(&gone));
        let mut rows = first.rows.clone();
        let second = fixture.desired(&rows).rows;
        hang_together(&second);
        for change in plan::plan(&second, &first.rows) {
            plan::apply(&mut rows, &change);
            meanings_hold(&rows);
        }
    }
}

#[test]
fn most_changes_are_alone() {
    let mut fixture = Fixture::two_hosts();
    let settled = fixture.desired(&Rows::default());
    let known = Settled {
        rows: &settled.rows,
        nodes: &settled.nodes,
        problems: &settled.problems,
    };
    fixture.remote("n2", 42, "c", 12);
    let (path, record) = fixture.endpoints.pop_last().unwrap();
    let added = Changed {
        path: path.clone(),
        before: None,
        after: Some(record.clone()),
    };
    assert_eq!(alone(known, &added).map(|changes| changes.len()), Some(2));
    let renamed = Changed {
        before: Some(record),
        ..added
    };
    assert_eq!(alone(known, &renamed), None, "it has no rows yet");
    let (path, record) = fixture.endpoints.pop_last().unwrap();
    let named = Changed {
        path: path.clone(),
        before: Some(record.clone()),
        after: Some(EndpointRecord {
            name: "other".into(),
            ..record.clone()
        }),
    };
    assert_eq!(alone(known, &named), Some(Vec::new()));
    let removed = Changed {
        path,
        before: Some(record),
        after: None,
    };
    assert_eq!(alone(known, &removed).map(|changes| changes.len()), Some(2));
}

/// Mostly on hosts that are known: one endpoint on a host that is not stops all on its network.
fn somewhere() -> impl Strategy<Value = &'static str> {
    proptest::sample::select([["n2"; 6], ["n3"; 6], ["n1", "n4", "n4", "n5", "n4", "n4"]].concat())
}

/// An endpoint's node, network, id, host number, and that of its MAC, which is mostly the same.
fn someone() -> impl Strategy<Value = (&'static str, u32, String, u8, u8)> {
    let mac_of = prop_oneof![6 => Just(None), 1 => (1u8..16).prop_map(Some)];
    (somewhere(), 1u32..3, "[a-c]", 1u8..16, mac_of)
        .prop_map(|(node, net, id, host, mac_of)| (node, net, id, host, mac_of.unwrap_or(host)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// What one endpoint's change does by itself is what working everything out anew would do.
    #[test]
    fn alone_is_as_anew(
        remote in proptest::collection::vec(someone(), 0..6),
        changes in proptest::collection::vec((someone(), any::<bool>()), 1..12),
        floods in any::<bool>(),
    ) {
        let mut fixture = Fixture::default();
        fixture.network("one", 1);
        fixture.network("two", 2);
        if floods {
            fixture.networks.get_mut("two").unwrap().flood = FloodMode::Replicate;
        }
        for host in 1..5 {
            fixture.node(&format!("n{host}"), host);
        }
        for (node, number, id, host, mac_of) in &remote {
            fixture.remote_with(node, *number, id, *host, *mac_of);
        }
        fixture.local("x", 1, 20);
        fixture.local("y", 2, 21);
        let mut settled = fixture.desired(&Rows::default());
        for ((node, number, id, host, mac_of), is_there) in &changes {
            let path = EndpointPath {
                node: NodeId::of_name(node),
                net: vni(*number),
                id: endpoint_id(id),
            };
            let before = fixture.endpoints.remove(&path);
            if *is_there {
                fixture.remote_with(node, *number, id, *host, *mac_of);
            }
            let after = fixture.endpoints.get(&path).cloned();
            let changed = Changed { path, before, after };
            let known = Settled {
                rows: &settled.rows,
                nodes: &settled.nodes,
                problems: &settled.problems,
            };
            let anew = fixture.desired(&settled.rows);
            if changed.path.node != NodeId::of_name("n1")
                && let Some(changes) = alone(known, &changed)
            {
                let mut rows = settled.rows.clone();
                changes.iter().for_each(|change| plan::apply(&mut rows, change));
                prop_assert_eq!(&rows, &anew.rows);
                prop_assert_eq!(&settled.problems, &anew.problems);
            }
            settled = anew;
        }
    }
}

fn hang_together(rows: &Rows) {
    meanings_hold(rows);
    for (key, value) in &rows.fdb {
        let pair = StatsKey {
            vni: key.vni,
            peer: value.peer,
        };
        assert_eq!(rows.stats_index.get(&pair), Some(&value.stats));
        assert!(rows.vnis.contains_key(&key.vni));
        let gateway = value.flags & fdb_flags::GATEWAY != 0;
        assert_eq!(value.peer == 0 && !gateway, value.ifindex != 0);
        assert_eq!(
            value.ifindex != 0,
            rows.endpoints.contains_key(&value.ifindex)
        );
    }
    for endpoint in rows.endpoints.values() {
        assert!(
            rows.fdb
                .contains_key(&FdbKey::new(endpoint.vni, endpoint.mac))
        );
    }
    let indexes = rows.peers.values().map(|peer| peer.index);
    assert!(
        indexes
            .chain(rows.tunnels.keys().copied())
            .all(|index| index != 0)
    );
    assert!(
        rows.tunnels
            .values()
            .all(|tunnel| *tunnel != TunnelValue::NONE)
    );
}

/// No number means two things.
fn meanings_hold(rows: &Rows) {
    let mut slots: Vec<u32> = rows.stats_index.values().copied().collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), rows.stats_index.len());
    for (ip, peer) in &rows.peers {
        if let Some(tunnel) = rows.tunnels.get(&peer.index) {
            assert_eq!(IpKey::from(destination(tunnel)), *ip);
        }
    }
}
