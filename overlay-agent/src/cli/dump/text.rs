//! The dump as tables.

use super::document::Dump;
use crate::cli::output::{or_dash, table};

pub(super) fn text(dump: &Dump) -> String {
    let endpoints = dump.endpoints.iter().map(|e| {
        [
            e.ifindex.to_string(),
            e.vni.to_string(),
            e.mac.to_string(),
            or_dash(e.ip4),
            or_dash(e.ip6),
            e.mtu.to_string(),
            e.flags.to_string(),
        ]
    });
    let vnis = dump.vnis.iter().map(|v| {
        let [vni, mtu, flood, flags] = [v.vni, v.mtu, v.flood, v.flags].map(|n| n.to_string());
        [vni, mtu, flood, or_dash(v.gateway_mac), flags]
    });
    let fdb = dump.fdb.iter().map(|f| {
        [
            f.vni.to_string(),
            f.mac.to_string(),
            or_dash(Some(f.ifindex).filter(|ifindex| *ifindex != 0)),
            or_dash(Some(f.peer).filter(|peer| *peer != 0)),
            f.stats.to_string(),
            f.generation.to_string(),
            f.flags.to_string(),
        ]
    });
    let neighbors = dump.neighbors.iter();
    let neighbors = neighbors.map(|n| [n.vni.to_string(), n.ip.to_string(), n.mac.to_string()]);
    let allowed = dump.allowed.iter();
    let allowed = allowed.map(|a| [a.ifindex.to_string(), a.prefix.clone()]);
    let peers = dump
        .peers
        .iter()
        .map(|p| [p.ip.to_string(), p.index.to_string()]);
    let tunnels = dump.tunnels.iter().map(|t| {
        [
            t.peer.to_string(),
            t.source.to_string(),
            t.destination.to_string(),
            t.ifindex.to_string(),
            or_dash(t.next_hop),
            t.mtu.to_string(),
        ]
    });
    let stats = dump.stats.iter().map(|s| {
        let counted = [s.tx_packets, s.tx_bytes, s.rx_packets, s.rx_bytes];
        let [tx_packets, tx_bytes, rx_packets, rx_bytes] = counted.map(|n| n.to_string());
        let [vni, peer, slot] = [s.vni, s.peer, s.slot].map(|n| n.to_string());
        [vni, peer, slot, tx_packets, tx_bytes, rx_packets, rx_bytes]
    });
    let drops = dump.drops.iter().map(|d| {
        [
            d.vni.to_string(),
            d.peer.to_string(),
            d.direction.to_owned(),
            d.reason.to_owned(),
            d.packets.to_string(),
        ]
    });
    let fallbacks = dump.fallbacks.iter();
    let fallbacks = fallbacks.map(|f| {
        [
            f.direction.to_owned(),
            f.cause.to_owned(),
            f.packets.to_string(),
        ]
    });
    let maps = dump.maps.iter();
    let maps = maps.map(|m| [m.map.to_owned(), m.entries.to_string(), m.max.to_string()]);
    [
        section(
            "endpoints",
            ["IFINDEX", "VNI", "MAC", "IP4", "IP6", "MTU", "FLAGS"],
            endpoints,
        ),
        section("vnis", ["VNI", "MTU", "FLOOD", "GATEWAY", "FLAGS"], vnis),
        section(
            "fdb",
            [
                "VNI",
                "MAC",
                "IFINDEX",
                "PEER",
                "STATS",
                "GENERATION",
                "FLAGS",
            ],
            fdb,
        ),
        section("neighbors", ["VNI", "IP", "MAC"], neighbors),
        section("allowed", ["IFINDEX", "PREFIX"], allowed),
        section("peers", ["IP", "PEER"], peers),
        section(
            "tunnels",
            ["PEER", "FROM", "TO", "IFINDEX", "NEXT HOP", "MTU"],
            tunnels,
        ),
        section(
            "stats",
            [
                "VNI",
                "PEER",
                "SLOT",
                "TX PACKETS",
                "TX BYTES",
                "RX PACKETS",
                "RX BYTES",
            ],
            stats,
        ),
        section(
            "drops",
            ["VNI", "PEER", "DIRECTION", "REASON", "PACKETS"],
            drops,
        ),
        section("fallbacks", ["DIRECTION", "CAUSE", "PACKETS"], fallbacks),
        section("maps", ["MAP", "ENTRIES", "MAX"], maps),
    ]
    .join("\n\n")
}

fn section<const N: usize>(
    name: &str,
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    format!("# {name}\n{}", table(header, rows))
}
