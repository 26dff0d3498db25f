use std::collections::BTreeSet;

use overlay_common::layout::{DropKey, PathStats, StatsKey};
use overlay_common::{Direction, DropReason, FallbackCause};

use prometheus::proto::LabelPair;

use super::*;
use crate::datapath::MapUse;
use crate::ipam::Family;

/// Name, labels, as dashboards rely on them.
const CONTRACT: &[(&str, &str)] = &[
    ("overlay_addresses_exhaustion_seconds", "family network"),
    ("overlay_addresses_free", "family network"),
    ("overlay_build_info", "datapath kernel version"),
    ("overlay_endpoints", "network"),
    ("overlay_fallback_packets_total", "cause direction"),
    ("overlay_map_entries", "map"),
    ("overlay_map_max_entries", "map"),
    ("overlay_peer_bytes_total", "direction peer"),
    ("overlay_peer_packets_total", "direction peer"),
    ("overlay_peers", ""),
    ("overlay_reconcile_repairs_total", "map"),
    ("overlay_store_errors_total", "kind"),
    ("overlay_store_last_contact_seconds", ""),
    ("overlay_store_up", ""),
    ("overlay_sync_duration_seconds", ""),
    ("overlay_vni_bytes_total", "direction network vni"),
    ("overlay_vni_drops_total", "direction network reason vni"),
    ("overlay_vni_packets_total", "direction network vni"),
];

fn reading() -> Reading {
    let stats = |tx_packets, rx_packets| PathStats {
        tx_packets,
        tx_bytes: 100 * tx_packets,
        rx_packets,
        rx_bytes: 100 * rx_packets,
    };
    let drop = DropKey::new(42, 1, Direction::Rx, DropReason::InnerSource);
    Reading {
        networks: [(42, "blue".to_owned())].into(),
        peers: [(1, "a".to_owned()), (2, "b".to_owned())].into(),
        stats: [
            (StatsKey { vni: 42, peer: 0 }, stats(5, 0)),
            (StatsKey { vni: 42, peer: 1 }, stats(3, 1)),
            (StatsKey { vni: 42, peer: 2 }, stats(4, 2)),
        ]
        .into(),
        retired: [(42, stats(10, 20)), (43, stats(1, 1))].into(),
        drops: vec![(drop, 6), (DropKey { peer: 2, ..drop }, 1)],
        fallbacks: vec![(Direction::Rx, FallbackCause::OuterFragment, 8)],
        maps: vec![MapUse {
            map: overlay_common::maps::FDB,
            entries: 9,
            max: 10,
        }],
        store: StoreReading {
            up: true,
            last_contact: Some(1.5),
            errors: [("unreachable", 2)].into(),
        },
        endpoints: [("blue".to_owned(), 2)].into(),
        addresses: [
            (
                ("blue".to_owned(), Family::V4),
                Left {
                    free: 250,
                    seconds: 7200.5,
                },
            ),
            (
                ("blue".to_owned(), Family::V6),
                Left {
                    free: 1 << 64,
                    seconds: f64::INFINITY,
                },
            ),
        ]
        .into(),
    }
}

fn metrics() -> Metrics {
    Metrics::new("6.18.0", "tc+xdp", &SyncMetrics::new().unwrap(), reading).unwrap()
}

#[test]
fn names_and_labels_are_the_contract() {
    let families = metrics().registry.gather();
    let found: Vec<(String, String)> = families
        .iter()
        .map(|family| {
            let metric = &family.get_metric()[0];
            let labels: BTreeSet<_> = metric.get_label().iter().map(LabelPair::name).collect();
            let labels: Vec<_> = labels.into_iter().collect();
            (family.name().to_owned(), labels.join(" "))
        })
        .collect();
    let wanted: Vec<_> = CONTRACT
        .iter()
        .map(|(name, labels)| ((*name).to_owned(), (*labels).to_owned()))
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn values() {
    let text = String::from_utf8(metrics().text().unwrap()).unwrap();
    for line in [
        // Over both peers and the one that is gone.
        r#"overlay_vni_packets_total{direction="tx",network="blue",vni="42"} 17"#,
        r#"overlay_vni_packets_total{direction="rx",network="blue",vni="42"} 23"#,
        r#"overlay_vni_packets_total{direction="local",network="blue",vni="42"} 5"#,
        r#"overlay_vni_bytes_total{direction="tx",network="blue",vni="42"} 1700"#,
        r#"overlay_peer_packets_total{direction="tx",peer="b"} 4"#,
        r#"overlay_peer_bytes_total{direction="rx",peer="a"} 100"#,
        // Over the peers that sent them.
        r#"overlay_vni_drops_total{direction="rx",network="blue",reason="inner_source",vni="42"} 7"#,
        r#"overlay_fallback_packets_total{cause="outer_fragment",direction="rx"} 8"#,
        r#"overlay_map_entries{map="FDB"} 9"#,
        r#"overlay_map_max_entries{map="FDB"} 10"#,
        "overlay_store_up 1",
        "overlay_store_last_contact_seconds 1.5",
        r#"overlay_store_errors_total{kind="unreachable"} 2"#,
        r#"overlay_endpoints{network="blue"} 2"#,
        "overlay_peers 2",
        r#"overlay_addresses_free{family="ipv4",network="blue"} 250"#,
        r#"overlay_addresses_free{family="ipv6",network="blue"} 18446744073709552000"#,
        r#"overlay_addresses_exhaustion_seconds{family="ipv4",network="blue"} 7200.5"#,
        r#"overlay_addresses_exhaustion_seconds{family="ipv6",network="blue"} inf"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(
        !text.contains(r#"vni="43""#),
        "a network that is gone is not shown"
    );
}

#[test]
fn one_help_and_type_each() {
    let text = String::from_utf8(metrics().text().unwrap()).unwrap();
    for (name, _) in CONTRACT {
        for kind in ["HELP", "TYPE"] {
            let start = format!("# {kind} {name} ");
            let count = text.lines().filter(|line| line.starts_with(&start)).count();
            assert_eq!(count, 1, "{start}");
        }
    }
}

#[test]
fn nothing_read_yet_is_no_error() {
    let metrics = Metrics::new(
        "6.18.0",
        "tc",
        &SyncMetrics::new().unwrap(),
        Reading::default,
    )
    .unwrap();
    let text = String::from_utf8(metrics.text().unwrap()).unwrap();
    assert!(
        !text.contains("overlay_store_last_contact_seconds"),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line == "overlay_store_up 0"),
        "{text}"
    );
}
