use std::net::IpAddr;

use ipnet::IpNet;
use overlay_common::net::Vni;
use proptest::prelude::*;

use super::*;
use crate::store::client::KvPair;

fn keys() -> Keys {
    Keys::new("overlay/")
}

fn pair(key: &str, value: &str) -> KvPair {
    KvPair {
        key: format!("overlay/v1/{key}"),
        value: value.as_bytes().to_vec(),
        create_index: 1,
        modify_index: 1,
        lock_index: 0,
        flags: 0,
        session: None,
    }
}

fn subnet(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn network(subnets: &[&str]) -> NetworkRecord {
    NetworkRecord {
        vni: Vni::new(42).unwrap(),
        subnets: subnets.iter().map(|text| subnet(text)).collect(),
        gateway: None,
        mtu: None,
        flood: FloodMode::Drop,
        options: NetworkOptions::default(),
        extra: Extra::new(),
    }
}

/// The spelling is a contract with every other version that uses the same store.
#[test]
fn key_spelling() {
    let keys = keys();
    let (node, net) = (NodeId::new(0xab_0000_0000_0023), Vni::new(42).unwrap());
    let path = EndpointPath {
        node,
        net,
        id: "0123456789abcdef".parse().unwrap(),
    };
    for (key, wanted) in [
        (keys.schema(), "overlay/v1/schema"),
        (keys.network("blue"), "overlay/v1/networks/blue"),
        (keys.vni(net), "overlay/v1/vnis/00002a"),
        (keys.node(node), "overlay/v1/nodes/00ab000000000023"),
        (
            keys.endpoint(&path),
            "overlay/v1/endpoints/00ab000000000023/00002a/0123456789abcdef",
        ),
        (
            keys.address(net, "10.64.0.2".parse().unwrap()),
            "overlay/v1/addresses/00002a/0a400002",
        ),
        (
            keys.address(net, "fd00::2".parse().unwrap()),
            "overlay/v1/addresses/00002a/fd000000000000000000000000000002",
        ),
        (keys.hint(net, 31), "overlay/v1/index/00002a/b/1f"),
        (
            keys.revision(net, node),
            "overlay/v1/index/00002a/n/03/00ab000000000023",
        ),
    ] {
        assert_eq!(key, wanted);
    }
}

#[test]
fn node_id_of_a_name_is_its_hash() {
    // printf %s tor-1 | sha256sum
    assert_eq!(NodeId::of_name("tor-1").to_string(), "620f67311c85cb9a");
}

proptest! {
    #[test]
    fn endpoint_keys_round_trip(node: u64, vni in 1..=Vni::MAX, id in "[0-9a-f]{16}|[0-9a-f]{64}") {
        let path = EndpointPath {
            node: NodeId::new(node),
            net: Vni::new(vni).unwrap(),
            id: id.parse().unwrap(),
        };
        prop_assert_eq!(keys().parse_endpoint(&keys().endpoint(&path)), Ok(path));
    }

    #[test]
    fn address_keys_round_trip(vni in 1..=Vni::MAX, ip: IpAddr) {
        let net = Vni::new(vni).unwrap();
        prop_assert_eq!(keys().parse_address(&keys().address(net, ip)), Ok((net, ip)));
    }

    /// Who reads and writes keys in their order relies on it.
    #[test]
    fn endpoint_ids_sort_as_their_text(
        a in "0{15}[0f](0{47}[0f])?|[0-9a-f]{16}|[0-9a-f]{64}",
        b in "0{15}[0f](0{47}[0f])?|[0-9a-f]{16}|[0-9a-f]{64}",
    ) {
        let (one, other): (EndpointId, EndpointId) = (a.parse().unwrap(), b.parse().unwrap());
        prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        prop_assert_eq!(one.to_string(), a);
    }

    #[test]
    fn hints_round_trip(node: u64, rev: u64) {
        let hint = Hint { node: NodeId::new(node), endpoint: EndpointId::random(), rev };
        prop_assert_eq!(Hint::decode(&hint.encode()), Some(hint));
    }

    /// Two subnets overlap just when some address is in both.
    #[test]
    fn overlap_is_a_shared_address(a: u32, b: u32, la in 8u8..=32, lb in 8u8..=32) {
        let make = |bits: u32, len| IpNet::new(IpAddr::V4(bits.into()), len).unwrap().trunc();
        let (a, b) = (make(a, la), make(b, lb));
        let shared = a.network() <= b.broadcast() && b.network() <= a.broadcast();
        prop_assert_eq!(subnets::overlap(&a, &b), shared);
    }

    #[test]
    fn no_key_or_value_panics(key in ".{0,40}", value in any::<Vec<u8>>()) {
        let mut pair = pair(&key, "");
        pair.value = value;
        for folder in ["networks/", "nodes/", "endpoints/", "addresses/"] {
            pair.key = format!("overlay/v1/{folder}{key}");
            let pairs = std::slice::from_ref(&pair);
            networks(&keys(), pairs);
            nodes(&keys(), pairs);
            endpoints(&keys(), pairs);
            let _ = keys().parse_address(&pair.key);
        }
    }
}

#[test]
fn ids_have_one_spelling() {
    for text in [
        "",
        "ABCDEF0123456789",
        "+bcdef0123456789",
        "0123456789abcde",
        "é23456789abcde",
    ] {
        assert!(text.parse::<NodeId>().is_err(), "{text}");
        assert!(text.parse::<EndpointId>().is_err(), "{text}");
    }
}

#[test]
fn a_bad_key_is_reported_alone() {
    let good = r#"{"vni":1,"subnets":["10.0.0.0/24"],"flood":"drop","options":{}}"#;
    let listing = networks(
        &keys(),
        &[
            pair("networks/", ""),
            pair("networks/a", good),
            pair("networks/b", "{nonsense"),
            pair("networks/c/d", good),
            pair("networks/e", &good.replace(":1,", ":0,")),
            pair("networks/f", &good.replace("0/24", "1/24")),
            pair("networks/g", good),
            pair("networks/h", &good.replace(":1,", ":2,")),
        ],
    );
    let names: Vec<_> = listing.items.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["a", "h"]);
    let bad: Vec<_> = listing
        .bad
        .iter()
        .map(|b| &b.key["overlay/v1/networks/".len()..])
        .collect();
    assert_eq!(bad, ["b", "c/d", "e", "f", "g"]);
    assert!(listing.bad[4].why.contains("`a`"));
}

#[test]
fn bad_nodes_and_endpoints() {
    let node = r#"{"name":"n","vteps":["192.0.2.1"],"port":4789}"#;
    let listing = nodes(
        &keys(),
        &[
            pair("nodes/", ""),
            pair("nodes/0000000000000001", node),
            pair("nodes/1", node),
            pair("nodes/0000000000000002", &node.replace("4789", "0")),
            pair(
                "nodes/0000000000000003",
                &node.replace("192.0.2.1", "224.0.0.1"),
            ),
            pair("nodes/0000000000000004", &node.replace("\"192.0.2.1\"", "")),
        ],
    );
    assert_eq!((listing.items.len(), listing.bad.len()), (1, 4));
    let record = r#"{"ip4":"10.0.0.2","mac":"02:42:0a:00:00:02"}"#;
    let folder = "endpoints/0000000000000001/00002a";
    let listing = endpoints(
        &keys(),
        &[
            pair(&format!("{folder}/0123456789abcdef"), record),
            pair(
                &format!("{folder}/0123456789abcde0"),
                &record.replace("02:42", "03:42"),
            ),
            pair(&format!("{folder}/x"), record),
            pair(folder, record),
        ],
    );
    assert_eq!((listing.items.len(), listing.bad.len()), (1, 3));
}

#[test]
fn a_bad_key_cannot_drive_a_terminal() {
    let bad = BadKey {
        key: "a\x1b[2J".into(),
        why: "x".into(),
    };
    assert!(!bad.to_string().contains('\x1b'));
}

#[test]
fn unknown_fields_survive() {
    let text = r#"{"vni":1,"subnets":["10.0.0.0/24"],"gateway":null,"mtu":null,"flood":"multicast=239.1.1.1","options":{"internal":true,"vlan":true,"flood_rate":50,"gateways":["10.0.0.9"],"color":"red"},"later":[1]}"#;
    let record: NetworkRecord = serde_json::from_str(text).unwrap();
    assert_eq!(
        record.flood,
        FloodMode::Multicast("239.1.1.1".parse().unwrap())
    );
    let again: serde_json::Value = serde_json::from_slice(&encode(&record)).unwrap();
    assert_eq!(
        again,
        serde_json::from_str::<serde_json::Value>(text).unwrap()
    );
}

#[test]
fn network_rules() {
    let refused = |subnets: &[&str]| rules::check_network(&network(subnets)).unwrap_err();
    assert!(matches!(refused(&[]), RuleError::NoSubnet));
    assert!(matches!(
        refused(&["10.0.0.1/24"]),
        RuleError::HostBits { .. }
    ));
    assert!(matches!(refused(&["10.0.0.0/31"]), RuleError::TooSmall(_)));
    assert!(matches!(refused(&["8.0.0.0/5"]), RuleError::TooLarge(_)));
    for special in [
        "224.0.0.0/24",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "0.0.0.0/8",
        "240.0.0.0/8",
        "fe80::/64",
        "ff02::/64",
        "::/64",
    ] {
        assert!(
            matches!(refused(&[special]), RuleError::NotForHosts(_)),
            "{special}"
        );
    }
    assert_eq!(
        refused(&["10.0.0.0/16", "fd00::/64", "10.0.3.0/24"]),
        RuleError::Overlap(subnet("10.0.0.0/16"), subnet("10.0.3.0/24"))
    );
    rules::check_network(&network(&["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"])).unwrap();
}

#[test]
fn gateway_and_mtu_rules() {
    let check = |gateway: &str, mtu: u16, subnets: &[&str]| {
        let mut record = network(subnets);
        record.gateway = Some(gateway.parse().unwrap());
        record.mtu = Some(mtu);
        rules::check_network(&record)
    };
    let net4 = &["10.0.0.0/24"][..];
    assert_eq!(check("10.0.0.1", 576, net4), Ok(()));
    assert!(matches!(
        check("10.0.1.1", 1450, net4),
        Err(RuleError::GatewayOutside(_))
    ));
    assert!(matches!(
        check("10.0.0.0", 1450, net4),
        Err(RuleError::GatewayReserved(_))
    ));
    assert!(matches!(
        check("10.0.0.255", 1450, net4),
        Err(RuleError::GatewayReserved(_))
    ));
    assert!(matches!(
        check("10.0.0.1", 575, net4),
        Err(RuleError::Mtu { .. })
    ));
    assert!(matches!(
        check("10.0.0.1", 65_500, net4),
        Err(RuleError::Mtu { .. })
    ));
    assert!(matches!(
        check("fd00::1", 1279, &["fd00::/64"]),
        Err(RuleError::Mtu { .. })
    ));
    assert_eq!(
        check("fd00::ffff:ffff:ffff:ffff", 1280, &["fd00::/64"]),
        Ok(())
    );
}

#[test]
fn one_gateway_for_each_subnet() {
    let mut record = network(&["10.0.0.0/24", "10.0.1.0/24"]);
    let check = |record: &mut NetworkRecord, gateways: &[&str]| {
        let mut all = gateways.iter().map(|ip| ip.parse().unwrap());
        record.gateway = all.next();
        record.options.gateways = all.collect();
        rules::check_network(record)
    };
    check(&mut record, &["10.0.1.9", "10.0.0.1"]).unwrap();
    let gateway = |ip: &str| record.gateway_of(ip.parse().unwrap());
    assert_eq!(gateway("10.0.0.7"), Some("10.0.0.1".parse().unwrap()));
    assert_eq!(gateway("10.0.1.7"), Some("10.0.1.9".parse().unwrap()));
    assert_eq!(gateway("10.0.2.7"), None);
    assert!(matches!(
        check(&mut record, &["10.0.0.1", "10.0.0.2"]),
        Err(RuleError::TwoGateways(..))
    ));
    assert!(matches!(
        check(&mut record, &["10.0.0.1", "10.0.1.255"]),
        Err(RuleError::GatewayReserved(_))
    ));
}

#[test]
fn groups_have_to_leave_the_link() {
    let check = |group: &str| {
        let mut record = network(&["10.0.0.0/24"]);
        record.flood = FloodMode::Multicast(group.parse().unwrap());
        rules::check_network(&record)
    };
    for good in ["239.1.1.1", "224.0.1.1", "ff05::1:1", "ff18::1"] {
        check(good).unwrap();
    }
    for bad in ["224.0.0.1", "224.0.0.251", "ff02::1", "ff01::1", "ff10::1"] {
        assert!(matches!(check(bad), Err(RuleError::LinkGroup(_))), "{bad}");
    }
}

#[test]
fn endpoint_rules() {
    let net = Vni::new(42).unwrap();
    let check = |mac: &str, allowed: &[&str]| {
        let json = serde_json::json!({"mac": mac, "allow_ips": allowed});
        let record: EndpointRecord = serde_json::from_value(json).unwrap();
        rules::check_endpoint(net, &record)
    };
    let mac = "02:42:0a:00:00:02";
    check(mac, &["10.0.0.9/32", "192.168.0.0/16", "0.0.0.0/0", "::/0"]).unwrap();
    check("02:6f:76:00:00:2b", &[]).unwrap();
    assert!(matches!(
        check("02:6f:76:00:00:2a", &[]),
        Err(RuleError::GatewayMac(_))
    ));
    for bad in [
        "0.0.0.0/32",
        "224.0.0.0/4",
        "::/128",
        "ff02::1/128",
        "127.0.0.1/32",
        "255.255.255.255/32",
    ] {
        assert!(
            matches!(check(mac, &[bad]), Err(RuleError::AllowIp(_))),
            "{bad}"
        );
    }
    assert!(matches!(
        check(mac, &["10.0.0.9/24"]),
        Err(RuleError::AllowBits(_))
    ));
    let many: Vec<_> = (0..65).map(|n| format!("10.1.0.{n}/32")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(matches!(
        check(mac, &many),
        Err(RuleError::TooManyAllowed { .. })
    ));
}

#[test]
fn a_prefix_makes_a_router() {
    let forwards = |json: serde_json::Value| {
        let record: EndpointRecord = serde_json::from_value(json).unwrap();
        record.forwards()
    };
    let mac = "02:00:00:00:00:01";
    assert!(!forwards(serde_json::json!({"mac": mac})));
    assert!(!forwards(
        serde_json::json!({"mac": mac, "allow_ips": ["10.0.0.9/32"]})
    ));
    assert!(forwards(
        serde_json::json!({"mac": mac, "allow_ips": ["10.0.0.8/31"]})
    ));
    assert!(forwards(
        serde_json::json!({"mac": mac, "forwarding": true})
    ));
}

#[test]
fn names() {
    for good in ["a", "web_1.blue-2", "0"] {
        rules::check_name(good).unwrap();
    }
    for bad in ["", ".", "..", "-a", "a/b", "a b", "ä", &"x".repeat(64)] {
        assert!(rules::check_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn default_subnets_avoid_what_is_taken() {
    let first = |taken: &[&str]| {
        let taken: Vec<_> = taken.iter().map(|text| subnet(text)).collect();
        subnets::first_free(&taken).map(|s| s.to_string())
    };
    assert_eq!(first(&[]).unwrap(), "10.64.0.0/16");
    assert_eq!(
        first(&["10.64.7.0/24", "10.66.0.0/16", "fd00::/8"]).unwrap(),
        "10.65.0.0/16"
    );
    assert_eq!(first(&["10.64.0.0/11"]).unwrap(), "10.96.0.0/16");
    assert_eq!(first(&["10.0.0.0/8"]), None);
}

#[test]
fn flood_modes() {
    for text in [
        "drop",
        "replicate",
        "multicast=239.1.1.1",
        "multicast=ff05::1",
    ] {
        assert_eq!(text.parse::<FloodMode>().unwrap().to_string(), text);
    }
    for text in ["", "Drop", "multicast", "multicast=10.0.0.1", "multicast=x"] {
        assert!(text.parse::<FloodMode>().is_err(), "{text}");
    }
}
