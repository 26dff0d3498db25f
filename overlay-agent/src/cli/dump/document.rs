//! The maps with addresses and numbers spelt out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_common::layout::{TunnelValue, tunnel_flags};
use overlay_common::net::MacAddr;
use overlay_common::packet::encap;
use overlay_common::{Direction, DropReason};
use serde::Serialize;

use crate::datapath::{Tables, TablesError};

#[derive(Debug, Serialize)]
pub(super) struct Dump {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) vnis: Vec<Vni>,
    pub(super) fdb: Vec<Fdb>,
    pub(super) neighbors: Vec<Neighbor>,
    pub(super) allowed: Vec<Allowed>,
    pub(super) peers: Vec<Peer>,
    pub(super) tunnels: Vec<Tunnel>,
    pub(super) stats: Vec<Stats>,
    pub(super) drops: Vec<Drops>,
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) maps: Vec<MapSize>,
}

#[derive(Debug, Serialize)]
pub(super) struct Endpoint {
    pub(super) ifindex: u32,
    pub(super) vni: u32,
    pub(super) mac: MacAddr,
    pub(super) ip4: Option<Ipv4Addr>,
    pub(super) ip6: Option<Ipv6Addr>,
    pub(super) mtu: u32,
    /// [`endpoint_flags`](overlay_common::layout::endpoint_flags).
    pub(super) flags: u32,
}

/// What an endpoint may send from besides its own addresses.
#[derive(Debug, Serialize)]
pub(super) struct Allowed {
    pub(super) ifindex: u32,
    pub(super) prefix: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Vni {
    pub(super) vni: u32,
    pub(super) mtu: u32,
    pub(super) flood: u32,
    pub(super) gateway_mac: Option<MacAddr>,
    /// [`vni_flags`](overlay_common::layout::vni_flags).
    pub(super) flags: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Fdb {
    pub(super) vni: u32,
    pub(super) mac: MacAddr,
    /// 0 for an endpoint of a peer.
    pub(super) ifindex: u32,
    /// 0 for an endpoint of this host.
    pub(super) peer: u32,
    pub(super) stats: u32,
    pub(super) generation: u32,
    /// [`fdb_flags`](overlay_common::layout::fdb_flags).
    pub(super) flags: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Neighbor {
    pub(super) vni: u32,
    pub(super) ip: IpAddr,
    pub(super) mac: MacAddr,
}

#[derive(Debug, Serialize)]
pub(super) struct Peer {
    pub(super) ip: IpAddr,
    pub(super) index: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Tunnel {
    pub(super) peer: u32,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ifindex: u32,
    pub(super) source_mac: MacAddr,
    /// `None` while the kernel has to find the next hop for each packet.
    pub(super) next_hop: Option<MacAddr>,
    pub(super) mtu: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Stats {
    pub(super) vni: u32,
    pub(super) peer: u32,
    pub(super) slot: u32,
    pub(super) tx_packets: u64,
    pub(super) tx_bytes: u64,
    pub(super) rx_packets: u64,
    pub(super) rx_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Drops {
    pub(super) vni: u32,
    pub(super) peer: u32,
    pub(super) direction: &'static str,
    pub(super) reason: &'static str,
    pub(super) packets: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Fallback {
    pub(super) direction: &'static str,
    pub(super) cause: &'static str,
    pub(super) packets: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct MapSize {
    pub(super) map: &'static str,
    pub(super) entries: u32,
    pub(super) max: u32,
}

pub(super) fn read(tables: &Tables) -> Result<Dump, TablesError> {
    let rows = tables.read_rows()?;
    let stats = tables.stats()?;
    let slot = |key| rows.stats_index.get(key).copied().unwrap_or(0);
    let endpoints = rows.endpoints.iter().map(|(&ifindex, value)| Endpoint {
        ifindex,
        vni: value.vni,
        mac: value.mac,
        ip4: Some(Ipv4Addr::from(value.ip4)).filter(|ip| !ip.is_unspecified()),
        ip6: Some(Ipv6Addr::from(value.ip6)).filter(|ip| !ip.is_unspecified()),
        mtu: value.mtu,
        flags: value.flags,
    });
    let vnis = rows.vnis.iter().map(|(&vni, value)| Vni {
        vni,
        mtu: value.mtu,
        flood: value.flood,
        gateway_mac: Some(value.gateway_mac).filter(|mac| !mac.is_zero()),
        flags: value.flags,
    });
    let fdb = rows.fdb.iter().map(|(key, value)| Fdb {
        vni: key.vni,
        mac: key.mac(),
        ifindex: value.ifindex,
        peer: value.peer,
        stats: value.stats,
        generation: value.generation,
        flags: value.flags,
    });
    let neighbors = rows.neighbors.iter().map(|(key, value)| Neighbor {
        vni: key.vni,
        ip: key.ip.into(),
        mac: value.mac,
    });
    let allowed = rows.allowed.keys().map(|row| Allowed {
        ifindex: row.key.ifindex,
        prefix: prefix(row.key.ip.into(), row.prefix_len),
    });
    let peers = rows.peers.iter().map(|(&ip, value)| Peer {
        ip: ip.into(),
        index: value.index,
    });
    let counters = stats.iter().map(|(key, value)| Stats {
        vni: key.vni,
        peer: key.peer,
        slot: slot(key),
        tx_packets: value.tx_packets,
        tx_bytes: value.tx_bytes,
        rx_packets: value.rx_packets,
        rx_bytes: value.rx_bytes,
    });
    let drops = tables.drops()?.into_iter().map(|(key, packets)| Drops {
        vni: key.vni,
        peer: key.peer,
        direction: Direction::from_number(key.direction).map_or("unknown", Direction::label),
        reason: DropReason::from_number(key.reason).map_or("unknown", DropReason::label),
        packets,
    });
    let fallbacks = tables.fallbacks()?.into_iter();
    let fallbacks = fallbacks.filter(|(.., packets)| *packets > 0);
    let fallbacks = fallbacks.map(|(direction, cause, packets)| Fallback {
        direction: direction.label(),
        cause: cause.label(),
        packets,
    });
    let maps = tables.sizes()?.into_iter().map(|size| MapSize {
        map: size.map,
        entries: size.entries,
        max: size.max,
    });
    Ok(Dump {
        endpoints: endpoints.collect(),
        vnis: vnis.collect(),
        fdb: fdb.collect(),
        neighbors: neighbors.collect(),
        allowed: allowed.collect(),
        peers: peers.collect(),
        tunnels: rows.tunnels.iter().map(tunnel).collect(),
        stats: counters.collect(),
        drops: drops.collect(),
        fallbacks: fallbacks.collect(),
        maps: maps.collect(),
    })
}

/// `bits` are those of the whole key: the ifindex's 32, then those of the 16-byte address.
fn prefix(ip: IpAddr, bits: u32) -> String {
    let before = if ip.is_ipv4() { 32 + 96 } else { 32 };
    format!("{ip}/{}", bits.saturating_sub(before))
}

fn tunnel((&peer, value): (&u32, &TunnelValue)) -> Tunnel {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = value.header;
    Tunnel {
        peer,
        source: encap::source(value),
        destination: encap::destination(value),
        ifindex: value.ifindex,
        source_mac: MacAddr([g, h, i, j, k, l]),
        next_hop: (value.flags & tunnel_flags::RESOLVED != 0)
            .then_some(MacAddr([a, b, c, d, e, f])),
        mtu: value.mtu,
    }
}
