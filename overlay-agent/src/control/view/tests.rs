use super::*;

fn pair(key: &str, value: &str) -> KvPair {
    let json = serde_json::json!({"Key": key, "CreateIndex": 1, "ModifyIndex": 1, "LockIndex": 0, "Flags": 0});
    KvPair {
        value: value.into(),
        ..serde_json::from_value(json).unwrap()
    }
}

fn network(vni: u32) -> String {
    format!(r#"{{"vni":{vni},"subnets":["10.1.0.0/16"]}}"#)
}

#[test]
fn a_corrupt_key_is_reported_alone_and_keeps_its_last_meaning() {
    let keys = Keys::new("overlay/");
    let (blue, red) = (keys.network("blue"), keys.network("red"));
    let mut view = View::default();
    view.set_networks(&keys, &[pair(&blue, &network(1)), pair(&red, &network(2))]);
    assert_eq!(view.networks.len(), 2);
    assert_eq!(view.bad_keys().count(), 0);

    view.set_networks(&keys, &[pair(&blue, "{"), pair(&red, &network(3))]);
    assert_eq!(view.networks["blue"].vni.get(), 1);
    assert_eq!(view.networks["red"].vni.get(), 3);
    let bad: Vec<_> = view.bad_keys().map(|bad| bad.key.as_str()).collect();
    assert_eq!(bad, [blue.as_str()]);

    view.set_networks(&keys, &[pair(&red, &network(3))]);
    assert_eq!(view.networks.len(), 1, "a deleted key is gone");
    assert_eq!(view.bad_keys().count(), 0);
}

/// What a node has on network 1: endpoints by their ids' last digits and their addresses, and keys to skip.
fn members(node: NodeId, endpoints: &[(u8, &str)], bad: &[&str]) -> Arrived {
    let keys = Keys::new("overlay/");
    let net = Vni::new(1).unwrap();
    let pair = |(id, ip): &(u8, &str)| {
        let id = format!("{id:016x}").parse().unwrap();
        let key = keys.endpoint(&EndpointPath { node, net, id });
        pair(
            &key,
            &format!(r#"{{"ip4":"{ip}","mac":"02:00:00:00:00:01"}}"#),
        )
    };
    let pairs: Vec<_> = endpoints.iter().map(pair).collect();
    let bad = bad.iter().map(|key| BadKey {
        key: (*key).to_owned(),
        why: String::new(),
    });
    let whole = NodeMembers {
        node,
        endpoints: schema::endpoints(&keys, &pairs).items,
        bad: bad.collect(),
        complete: true,
    };
    Arrived {
        whole: Some(whole),
        ones: BTreeMap::new(),
    }
}

#[test]
fn a_network_is_filled_at_once_and_then_compared() {
    let (keys, net) = (Keys::new("overlay/"), Vni::new(1).unwrap());
    let [own, one, two] = [1, 2, 3].map(NodeId::new);
    let mut view = View::default();
    view.set_endpoints_of(own, &keys, &[]);
    let mut taken = |nodes: &[(NodeId, Arrived)]| {
        let nodes = nodes.iter().cloned().collect();
        let changed = view.take_members(net, nodes, own, &keys);
        let paths: Vec<NodeId> = view.endpoints.keys().map(|path| path.node).collect();
        (changed, paths, view.bad_count())
    };
    // What changed while the rest was read is newer.
    let mut newer = members(one, &[(1, "10.1.0.1"), (2, "10.1.0.2")], &[]);
    newer
        .ones
        .insert(format!("{:016x}", 1).parse().unwrap(), None);
    let all = [
        (own, members(own, &[(9, "10.1.0.9")], &[])),
        (one, newer),
        (
            two,
            members(two, &[(3, "10.1.0.3"), (4, "10.1.0.4")], &["x"]),
        ),
    ];
    let (changed, nodes, bad) = taken(&all);
    assert_eq!((changed, nodes, bad), (None, vec![one, two, two], 1));

    let again = [(two, members(two, &[(3, "10.1.0.3"), (4, "10.1.0.5")], &[]))];
    let (changed, nodes, bad) = taken(&again);
    let changed = changed.unwrap();
    assert_eq!(changed.len(), 1, "only what is different: {changed:?}");
    assert_eq!((nodes, bad), (vec![one, two, two], 0));

    let fewer = [(two, members(two, &[(4, "10.1.0.5")], &[]))];
    let (changed, nodes, _) = taken(&fewer);
    assert!(changed.unwrap()[0].after.is_none());
    assert_eq!(nodes, [one, two]);
}

#[test]
fn complete_when_all_three_were_read() {
    let keys = Keys::new("overlay/");
    let mut view = View::default();
    view.set_networks(&keys, &[]);
    view.set_nodes(&keys, &[]);
    assert!(!view.is_complete());
    view.set_endpoints_of(NodeId::new(1), &keys, &[]);
    assert!(view.is_complete());
}
