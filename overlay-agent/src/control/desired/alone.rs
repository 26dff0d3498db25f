//! The rows of one endpoint of another host, where its change concerns no others: on a large network most
//! changes are such, and to work everything out anew takes longer than all the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use overlay_common::layout::{
    FdbKey, FdbValue, FloodMode, NeighborKey, NeighborValue, PeerIndex, StatsKey,
};
use overlay_common::net::Vni;

use super::Problem;
use crate::datapath::rows::{Change, Rows};
use crate::store::schema::{EndpointPath, EndpointRecord, NodeId};

/// What the store says of an endpoint, before and now; `None` where it was or is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub path: EndpointPath,
    pub before: Option<EndpointRecord>,
    pub after: Option<EndpointRecord>,
}

/// What the rows are made with.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a> {
    pub rows: &'a Rows,
    /// The index of each node that can be reached.
    pub nodes: &'a BTreeMap<NodeId, PeerIndex>,
    /// As it was when the rows were made.
    pub dead: &'a BTreeSet<NodeId>,
    pub problems: &'a [Problem],
}

/// The changes to the rows, ordered as those of a plan. `None` where other rows may change, too: whoever shares
/// an address, counters, who gets what is flooded.
pub fn alone(settled: Settled<'_>, changed: &Changed) -> Option<Vec<Change>> {
    let Settled {
        rows,
        nodes,
        dead,
        problems,
    } = settled;
    let net = changed.path.net;
    let vni = net.get();
    let Some(network) = rows.vnis.get(&vni) else {
        return Some(Vec::new());
    };
    if dead.contains(&changed.path.node) {
        return Some(Vec::new());
    }
    let peer = *nodes.get(&changed.path.node)?;
    let stats = *rows.stats_index.get(&StatsKey { vni, peer })?;
    let floods = FloodMode::from_number(network.flood) != FloodMode::Drop;
    if floods || problems.iter().any(|problem| is_contested(problem, net)) {
        return None;
    }
    let (before, after) = (changed.before.as_ref(), changed.after.as_ref());
    // Its rows are its own, and those that it will have are nobody's.
    let is_own = |ip: &IpAddr| {
        let there = rows.neighbors.get(&neighbor(vni, *ip));
        there.map(|value| value.mac) == before.map(|record| record.mac)
    };
    if let Some(record) = before {
        let entry = rows.fdb.get(&FdbKey::new(vni, record.mac))?;
        if (entry.ifindex, entry.peer) != (0, peer) || !record.addresses().all(|ip| is_own(&ip)) {
            return None;
        }
    }
    let had_mac = |record: &EndpointRecord| before.is_some_and(|before| before.mac == record.mac);
    let had_ip =
        |ip: &IpAddr| before.is_some_and(|before| before.addresses().any(|own| own == *ip));
    let mut changes = Vec::new();
    let mut removed = Vec::new();
    if let Some(record) = after {
        let key = FdbKey::new(vni, record.mac);
        let current = rows.fdb.get(&key);
        let free = |ip: &IpAddr| had_ip(ip) || !rows.neighbors.contains_key(&neighbor(vni, *ip));
        if (current.is_some() && !had_mac(record)) || !record.addresses().all(|ip| free(&ip)) {
            return None;
        }
        for ip in record.addresses() {
            let key = neighbor(vni, ip);
            let value = NeighborValue {
                mac: record.mac,
                flags: 0,
            };
            if rows.neighbors.get(&key) != Some(&value) {
                changes.push(Change::Neighbor(key, Some(value)));
            }
        }
        let value = FdbValue {
            ifindex: 0,
            peer,
            stats,
            generation: current.map_or(0, |current| current.generation),
            vni,
            flags: 0,
        };
        if current != Some(&value) {
            changes.push(Change::Fdb(key, Some(value)));
        }
    }
    if let Some(record) = before {
        if after.is_none_or(|after| after.mac != record.mac) {
            removed.push(Change::Fdb(FdbKey::new(vni, record.mac), None));
        }
        let stays =
            |ip: &IpAddr| after.is_some_and(|after| after.addresses().any(|new| new == *ip));
        let gone = record.addresses().filter(|ip| !stays(ip));
        removed.extend(gone.map(|ip| Change::Neighbor(neighbor(vni, ip), None)));
    }
    changes.append(&mut removed);
    Some(changes)
}

fn neighbor(vni: u32, ip: IpAddr) -> NeighborKey {
    NeighborKey { vni, ip: ip.into() }
}

/// Whether somebody on the network goes without something that another has.
fn is_contested(problem: &Problem, net: Vni) -> bool {
    match problem {
        Problem::DuplicateMac { vni, .. }
        | Problem::DuplicateIp { vni, .. }
        | Problem::GatewayTaken { vni, .. }
        | Problem::NoNetwork { vni } => *vni == net,
        Problem::UnknownNode { .. } | Problem::SharedAddress { .. } => true,
        _ => false,
    }
}
