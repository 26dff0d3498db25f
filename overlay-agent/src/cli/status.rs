//! `status`

use std::fmt::Write as _;

use anyhow::Result;

use super::node::state;
use super::output::{Format, fields, joined, or_dash, table};
use crate::api::client::Client;
use crate::api::types::{Status, Store};

pub(super) async fn exec(format: Format, client: &Client) -> Result<()> {
    let status: Status = client.get(&["status"]).await?;
    format.print(&status, text)
}

fn text(status: &Status) -> String {
    let underlay = &status.underlay;
    let synced = match &status.snapshot {
        Some(snapshot) => format!(
            "working from a snapshot of {}, {} s old",
            snapshot.taken, snapshot.age_seconds
        ),
        None if status.synced => "in line with the store".to_owned(),
        None => "not yet in line with the store: it keeps its last state".to_owned(),
    };
    let mut lines = fields([
        ("node", format!("{} ({})", status.node, status.node_id)),
        ("version", status.version.clone()),
        (
            "underlay",
            format!(
                "{} {} port {}, MTU {}, xdp {}, decap {}",
                underlay.device,
                joined(&underlay.addresses),
                underlay.port,
                underlay.mtu,
                underlay.xdp,
                underlay.decap
            ),
        ),
        ("store", store(&status.store)),
        ("data path", synced),
        ("endpoints", status.endpoints.to_string()),
        ("peers", status.peers.len().to_string()),
        (
            "networks",
            format!("{}, {} here", status.networks_total, status.networks.len()),
        ),
    ]);
    if !status.networks.is_empty() {
        let rows = status.networks.iter().map(|(name, network)| {
            [
                name.clone(),
                network.vni.to_string(),
                network.mtu.to_string(),
                network.endpoints.to_string(),
            ]
        });
        lines += "\n\n";
        lines += &table(["NETWORK", "VNI", "MTU", "ENDPOINTS"], rows);
    }
    if !status.peers.is_empty() {
        let rows = status.peers.iter().map(|peer| {
            let next_hop = match (peer.route, peer.next_hop) {
                (false, _) => "no route".to_owned(),
                (true, mac) => or_dash(mac),
            };
            [peer.name.clone(), peer.address.to_string(), next_hop]
        });
        lines += "\n\n";
        lines += &table(["PEER", "ADDRESS", "NEXT HOP"], rows);
    }
    if !status.absent.is_empty() {
        let rows = status.absent.iter();
        let rows = rows.map(|node| [node.name.clone(), node.id.clone(), state(node)]);
        lines += "\n\n";
        lines += &table(["HOST", "ID", "AGENT"], rows);
    }
    if !status.problems.is_empty() {
        lines += "\n\nproblems:";
        for problem in &status.problems {
            // Writing to a String cannot fail.
            let _ = write!(lines, "\n  {problem}");
        }
    }
    lines
}

fn store(store: &Store) -> String {
    if store.up {
        return format!("{} up", store.address);
    }
    let since = store.down_since.as_ref().map_or_else(String::new, |since| {
        format!(" since {since} ({} s ago)", store.down_seconds.unwrap_or(0))
    });
    let why = store
        .error
        .as_ref()
        .map_or(String::new(), |why| format!(": {why}"));
    format!("{} down{since}{why}", store.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_down_says_since_when() {
        let down = Store {
            address: "http://127.0.0.1:8500".to_owned(),
            up: false,
            down_since: Some("2025-01-01T00:00:00Z".to_owned()),
            down_seconds: Some(30),
            error: Some("connection refused".to_owned()),
        };
        assert_eq!(
            store(&down),
            "http://127.0.0.1:8500 down since 2025-01-01T00:00:00Z (30 s ago): connection refused"
        );
    }
}
