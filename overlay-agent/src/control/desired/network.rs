//! What the record of a network says in the maps: VNIS, its gateways, its part of ENDPOINTS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_common::layout::{
    AllowedKey, EndpointValue, FdbKey, FdbValue, NeighborKey, NeighborValue, VniValue,
    endpoint_flags, fdb_flags, neighbor_flags, vni_flags,
};
use overlay_common::net::MacAddr;

use super::members::Member;
use super::{Local, World, floods, network_mtu, network_overhead};
use crate::control::problem::Problem;
use crate::datapath::rows::{Allowed, Rows};
use crate::store::schema::{self, NetworkRecord, gateway_mac, rules};

/// Bits of [`AllowedKey`] before the address.
const IFINDEX_BITS: u32 = 32;
/// Bits of an IPv4 address's key before the address.
const MAPPED_BITS: u32 = 96;

/// Rows of the networks that have endpoints here.
pub(super) fn vni_rows(
    world: &World<'_>,
    overhead: u16,
    current: &Rows,
    problems: &mut Vec<Problem>,
) -> BTreeMap<u32, VniValue> {
    let mut rows = BTreeMap::new();
    for Local { vni, .. } in world.local.values() {
        if rows.contains_key(&vni.get()) {
            continue;
        }
        let network = world.networks.iter().find(|(_, record)| record.vni == *vni);
        let Some((name, record)) = network else {
            // Its entry may be unreadable just now: that must not cut its endpoints off.
            problems.push(Problem::NoNetwork { vni: *vni });
            let kept = current.vnis.get(&vni.get()).copied();
            let fresh = || VniValue {
                mtu: network_mtu(None, world.underlay_mtu, overhead).into(),
                ..VniValue::default()
            };
            rows.insert(vni.get(), kept.unwrap_or_else(fresh));
            continue;
        };
        rows.insert(vni.get(), vni_row(world, overhead, name, record, problems));
    }
    rows
}

fn vni_row(
    world: &World<'_>,
    overhead: u16,
    name: &str,
    record: &NetworkRecord,
    problems: &mut Vec<Problem>,
) -> VniValue {
    let overhead = network_overhead(record.flood, overhead);
    let mtu = network_mtu(record.mtu, world.underlay_mtu, overhead);
    let least = rules::least_mtu(&record.subnets);
    if record.mtu.is_some_and(|wanted| wanted > mtu) || mtu < least {
        problems.push(Problem::UnderlayMtu {
            network: name.to_owned(),
            wanted: record.mtu.unwrap_or(least),
            underlay: world.underlay_mtu,
            mtu,
        });
    }
    let gateway = record.gateways().next();
    let gateway_mac = gateway.map_or_else(MacAddr::default, |_| gateway_mac(record.vni));
    let options = &record.options;
    VniValue {
        flags: bit(options.internal, vni_flags::INTERNAL) | bit(options.vlan, vni_flags::VLAN),
        mtu: mtu.into(),
        gateway_mac,
        ..floods::mode(record)
    }
}

/// `network` is `None` while its record cannot be read: nothing but the bare endpoint is known.
pub(super) fn endpoint_row(
    member: &Member<'_>,
    network: Option<&NetworkRecord>,
    row: &VniValue,
) -> EndpointValue {
    let gateway = |ip: Option<IpAddr>| network?.gateway_of(ip?);
    let floods = network.is_some_and(|record| record.flood != schema::FloodMode::Drop);
    let vlan = row.flags & vni_flags::VLAN != 0;
    EndpointValue {
        vni: member.vni.get(),
        mtu: row.mtu,
        flags: bit(floods, endpoint_flags::FLOODS)
            | bit(vlan, endpoint_flags::VLAN)
            | bit(!member.allow_ips.is_empty(), endpoint_flags::ALLOWED),
        mac: member.mac,
        pad: [0; 2],
        ip4: member.ip4.map_or([0; 4], |ip| ip.octets()),
        gateway4: match gateway(member.ip4.map(IpAddr::from)) {
            Some(IpAddr::V4(ip)) => ip.octets(),
            Some(IpAddr::V6(_)) | None => [0; 4],
        },
        ip6: member.ip6.map_or([0; 16], |ip| ip.octets()),
        gateway6: match gateway(member.ip6.map(IpAddr::from)) {
            Some(IpAddr::V6(ip)) => ip.octets(),
            Some(IpAddr::V4(_)) | None => [0; 16],
        },
    }
}

/// What an endpoint of this host may send from besides its own addresses.
pub(super) fn allowed_rows<'a>(
    member: &'a Member<'_>,
) -> impl Iterator<Item = (Allowed, u32)> + use<'a> {
    member.allow_ips.iter().map(|prefix| {
        let mapped = match prefix {
            IpNet::V4(_) => MAPPED_BITS,
            IpNet::V6(_) => 0,
        };
        let key = AllowedKey {
            ifindex: member.ifindex,
            ip: prefix.network().into(),
        };
        let prefix_len = IFINDEX_BITS + mapped + u32::from(prefix.prefix_len());
        (Allowed { key, prefix_len }, 1)
    })
}

/// The gateways of a network answer on every host: they are neighbours with one MAC, whose frames
/// are routed. `stats` is the slot of what stays on this host.
pub(super) fn add_gateways(rows: &mut Rows, record: &NetworkRecord, stats: u32) {
    let (vni, mac) = (record.vni.get(), gateway_mac(record.vni));
    for gateway in record.gateways() {
        let key = NeighborKey {
            vni,
            ip: gateway.into(),
        };
        let value = NeighborValue {
            mac,
            flags: neighbor_flags::ROUTER,
        };
        rows.neighbors.insert(key, value);
        let value = FdbValue {
            stats,
            vni,
            flags: fdb_flags::GATEWAY,
            ..FdbValue::default()
        };
        rows.fdb.insert(FdbKey::new(vni, mac), value);
    }
}

fn bit(on: bool, bit: u32) -> u32 {
    if on { bit } else { 0 }
}
