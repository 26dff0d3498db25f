//! `status`

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::output::{Format, or_dash, table};
use crate::api::client::Client;
use crate::api::types::{Status, Store};

pub(super) async fn exec(format: Format, client: &Client) -> Result<()> {
    let status: Status = client.get(&["status"]).await?;
    format.print(&status, |status| text(status, SystemTime::now()))
}

fn text(status: &Status, now: SystemTime) -> String {
    let underlay = &status.underlay;
    let synced = if status.synced {
        "in line with the store"
    } else {
        "not yet in line with the store: it keeps its last state"
    };
    let mut lines = [
        ("node", format!("{} ({})", status.node, status.node_id)),
        ("version", status.version.clone()),
        (
            "underlay",
            format!(
                "{} {} port {}, MTU {}, xdp {}",
                underlay.device, underlay.address, underlay.port, underlay.mtu, underlay.xdp
            ),
        ),
        ("store", store(&status.store, now)),
        ("data path", synced.to_owned()),
        ("endpoints", status.endpoints.to_string()),
        ("peers", status.peers.len().to_string()),
        (
            "networks",
            format!("{}, {} here", status.networks_total, status.networks.len()),
        ),
    ]
    .map(|(key, value)| format!("{key:<10} {value}"))
    .join("\n");
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
    if !status.problems.is_empty() {
        lines += "\n\nproblems:";
        for problem in &status.problems {
            // Writing to a String cannot fail.
            let _ = write!(lines, "\n  {problem}");
        }
    }
    lines
}

fn store(store: &Store, now: SystemTime) -> String {
    if store.up {
        return format!("{} up", store.address);
    }
    let since = store.down_since.map_or(String::new(), |seconds| {
        let since = UNIX_EPOCH + Duration::from_secs(seconds);
        let ago = now.duration_since(since).unwrap_or_default().as_secs();
        format!(" since {} ({ago} s ago)", utc(seconds))
    });
    let why = store
        .error
        .as_ref()
        .map_or(String::new(), |why| format!(": {why}"));
    format!("{} down{since}{why}", store.address)
}

/// RFC 3339 in UTC.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, in eras of 400 years (Howard Hinnant, "chrono-compatible
    // low-level date algorithms", civil_from_days).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + 400 * era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(utc(1_735_689_600), "2025-01-01T00:00:00Z");
    }

    #[test]
    fn a_store_that_is_down_says_since_when() {
        let down = Store {
            address: "http://127.0.0.1:8500".to_owned(),
            up: false,
            down_since: Some(1_735_689_600),
            error: Some("connection refused".to_owned()),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_735_689_630);
        assert_eq!(
            store(&down, now),
            "http://127.0.0.1:8500 down since 2025-01-01T00:00:00Z (30 s ago): connection refused"
        );
    }
}
