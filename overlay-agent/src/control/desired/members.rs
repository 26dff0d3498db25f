//! Which endpoints are members of the networks of this host, and who wins where two claim the
//! same address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlay_common::layout::{PeerIndex, VniValue};
use overlay_common::net::{MacAddr, Vni};

use super::peers::Peers;
use super::{Problem, World};
use crate::store::schema::EndpointId;

/// An endpoint of a network that this host takes part in.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    id: &'a EndpointId,
    pub(super) vni: Vni,
    pub(super) mac: MacAddr,
    pub(super) ip4: Option<Ipv4Addr>,
    pub(super) ip6: Option<Ipv6Addr>,
    /// 0 for an endpoint of this host.
    pub(super) peer: PeerIndex,
    /// 0 for an endpoint of a peer.
    pub(super) ifindex: u32,
    /// Whether another member has the address already.
    ip4_taken: bool,
    ip6_taken: bool,
    /// Of an endpoint of this host: what it may send from besides its addresses.
    pub(super) allow_ips: &'a [IpNet],
    /// An endpoint of this host that forwards packets of others.
    pub(super) forwards: bool,
}

impl Member<'_> {
    /// The addresses that ARP and neighbour discovery find it by.
    pub(super) fn neighbors(&self) -> impl Iterator<Item = IpAddr> {
        let ip4 = self.ip4.filter(|_| !self.ip4_taken).map(IpAddr::from);
        let ip6 = self.ip6.filter(|_| !self.ip6_taken).map(IpAddr::from);
        ip4.into_iter().chain(ip6)
    }
}

/// Members with distinct MACs. An endpoint of this host goes before one of a peer, then the
/// order of node and endpoint ids decides, so that every host decides alike.
pub(super) fn chosen<'a>(
    world: &World<'a>,
    vnis: &BTreeMap<u32, VniValue>,
    peers: &Peers,
    problems: &mut Vec<Problem>,
) -> Vec<Member<'a>> {
    // Who has them; there may be very many.
    let mut macs: HashMap<(Vni, MacAddr), &EndpointId> = HashMap::new();
    let mut ips: HashMap<(Vni, IpAddr), &EndpointId> = HashMap::new();
    let networks = world.networks.values();
    let gateways: BTreeSet<_> = networks
        .flat_map(|record| record.gateways().map(|gateway| (record.vni, gateway)))
        .collect();
    let mut chosen = Vec::new();
    for mut member in local(world).chain(remote(world, vnis, peers, problems)) {
        let (vni, mac) = (member.vni, member.mac);
        if let Some(kept) = macs.get(&(vni, mac)) {
            problems.push(Problem::DuplicateMac {
                vni,
                mac,
                kept: (*kept).clone(),
                dropped: member.id.clone(),
            });
            continue;
        }
        macs.insert((vni, mac), member.id);
        let mut taken = |ip: IpAddr| {
            if gateways.contains(&(vni, ip)) {
                problems.push(Problem::GatewayTaken {
                    vni,
                    ip,
                    endpoint: member.id.clone(),
                });
                return true;
            }
            if let Some(kept) = ips.get(&(vni, ip)) {
                problems.push(Problem::DuplicateIp {
                    vni,
                    ip,
                    kept: (*kept).clone(),
                    dropped: member.id.clone(),
                });
                return true;
            }
            ips.insert((vni, ip), member.id);
            false
        };
        let ip4_taken = member.ip4.is_some_and(|ip| taken(ip.into()));
        let ip6_taken = member.ip6.is_some_and(|ip| taken(ip.into()));
        (member.ip4_taken, member.ip6_taken) = (ip4_taken, ip6_taken);
        chosen.push(member);
    }
    chosen
}

fn local<'a>(world: &World<'a>) -> impl Iterator<Item = Member<'a>> {
    world.local.iter().map(|(id, local)| Member {
        id,
        vni: local.vni,
        mac: local.mac,
        ip4: local.ip4,
        ip6: local.ip6,
        peer: 0,
        ifindex: local.ifindex,
        ip4_taken: false,
        ip6_taken: false,
        allow_ips: &local.allow_ips,
        forwards: local.forwards,
    })
}

fn remote<'a>(
    world: &World<'a>,
    vnis: &BTreeMap<u32, VniValue>,
    peers: &Peers,
    problems: &mut Vec<Problem>,
) -> impl Iterator<Item = Member<'a>> + use<'a> {
    let mut members = Vec::new();
    for (path, record) in world.endpoints {
        let is_others = path.node != world.node && !world.dead.contains(&path.node);
        if !is_others || !vnis.contains_key(&path.net.get()) {
            continue;
        }
        let Some(peer) = peers.index(path.node) else {
            if !world.nodes.contains_key(&path.node) {
                problems.push(Problem::UnknownNode {
                    endpoint: path.id.clone(),
                    node: path.node,
                });
            }
            continue;
        };
        members.push(Member {
            id: &path.id,
            vni: path.net,
            mac: record.mac,
            ip4: record.ip4,
            ip6: record.ip6,
            peer,
            ifindex: 0,
            ip4_taken: false,
            ip6_taken: false,
            allow_ips: &[],
            forwards: false,
        });
    }
    members.into_iter()
}
