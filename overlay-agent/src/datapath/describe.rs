//! Rows of the maps in words, for people who compare what is there with what should be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_common::layout::{
    EndpointValue, FdbValue, NeighborValue, PeerValue, TunnelValue, VniValue,
};
use overlay_common::packet::encap;
use serde::{Deserialize, Serialize};

use super::rows::{Change, Flood, Rows};

/// A row that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub map: String,
    pub key: String,
    /// What is there; `None` for nothing.
    pub is: Option<String>,
    /// What should be; `None` for nothing.
    pub should_be: Option<String>,
}

/// What a change to `rows` makes of what.
pub fn difference(change: &Change, rows: &Rows) -> Difference {
    let (key, is, should_be) = match change {
        Change::Endpoint(ifindex, value) => {
            let before = rows.endpoints.get(ifindex);
            (
                format!("interface {ifindex}"),
                before.map(endpoint),
                value.as_deref().map(endpoint),
            )
        }
        Change::Fdb(key, value) => {
            let before = rows.fdb.get(key);
            (
                format!("vni {} mac {}", key.vni, key.mac()),
                before.map(fdb),
                value.as_ref().map(fdb),
            )
        }
        Change::Neighbor(key, value) => {
            let mac = |value: &NeighborValue| value.mac.to_string();
            let before = rows.neighbors.get(key);
            let key = format!("vni {} ip {}", key.vni, IpAddr::from(key.ip));
            (key, before.map(mac), value.as_ref().map(mac))
        }
        Change::Peer(ip, value) => {
            let peer = |value: &PeerValue| format!("peer {}", value.index);
            let before = rows.peers.get(ip);
            (
                IpAddr::from(*ip).to_string(),
                before.map(peer),
                value.as_ref().map(peer),
            )
        }
        Change::Tunnel(index, value) => {
            let before = rows.tunnels.get(index);
            (
                format!("peer {index}"),
                before.map(tunnel),
                value.as_deref().map(tunnel),
            )
        }
        Change::Vni(number, value) => {
            let before = rows.vnis.get(number);
            (
                format!("vni {number}"),
                before.map(vni),
                value.as_ref().map(vni),
            )
        }
        Change::StatsIndex(key, value) => {
            let slot = |slot: &u32| format!("slot {slot}");
            let before = rows.stats_index.get(key);
            let key = format!("vni {} peer {}", key.vni, key.peer);
            (key, before.map(slot), value.as_ref().map(slot))
        }
        Change::Flood(number, value) => {
            let before = rows.floods.get(number);
            (
                format!("vni {number}"),
                before.map(flood),
                value.as_ref().map(flood),
            )
        }
        Change::Allowed(prefix, value) => {
            let there = |_: &u32| "allowed".to_owned();
            let before = rows.allowed.get(prefix);
            let ip = IpAddr::from(prefix.key.ip);
            let key = format!(
                "interface {} from {ip} (prefix of {} bits)",
                prefix.key.ifindex, prefix.prefix_len
            );
            (key, before.map(there), value.as_ref().map(there))
        }
    };
    Difference {
        map: change.map().to_owned(),
        key,
        is,
        should_be,
    }
}

fn endpoint(value: &EndpointValue) -> String {
    let (ip4, ip6) = (Ipv4Addr::from(value.ip4), Ipv6Addr::from(value.ip6));
    let EndpointValue {
        vni,
        mac,
        mtu,
        flags,
        ..
    } = value;
    format!("vni {vni} mac {mac} ip4 {ip4} ip6 {ip6} mtu {mtu} flags {flags:#x}")
}

fn fdb(value: &FdbValue) -> String {
    let place = match (value.ifindex, value.peer) {
        (0, peer) => format!("peer {peer}"),
        (ifindex, _) => format!("interface {ifindex}"),
    };
    let FdbValue { stats, flags, .. } = value;
    format!("{place} slot {stats} flags {flags:#x}")
}

fn tunnel(value: &TunnelValue) -> String {
    let (from, to) = (encap::source(value), encap::destination(value));
    let TunnelValue {
        ifindex,
        mtu,
        flags,
        ..
    } = value;
    format!("from {from} to {to} interface {ifindex} mtu {mtu} flags {flags:#x}")
}

fn vni(value: &VniValue) -> String {
    let VniValue {
        mtu,
        flood,
        flood_rate,
        gateway_mac,
        flags,
        ..
    } = value;
    format!("mtu {mtu} flood {flood} rate {flood_rate} gateway {gateway_mac} flags {flags:#x}")
}

fn flood(value: &Flood) -> String {
    format!(
        "{} peers, {} endpoints",
        value.peers.len(),
        value.locals.len()
    )
}
