//! Frames that an endpoint of this host sends.

use super::{Refusal, Tables};
use crate::DropReason;
use crate::layout::{EndpointValue, FdbKey, NeighborKey, PeerIndex, endpoint_flags};
use crate::net::{IpKey, MacAddr};
use crate::packet::arp::{Arp, Operation};
use crate::packet::{
    ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_MIN, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, Packet,
};

/// Where an endpoint's frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To another endpoint of this host.
    Local { ifindex: u32, stats: u32 },
    /// Through the tunnel to a peer.
    Remote { peer: PeerIndex, stats: u32 },
    /// Back to the sender: its question answered.
    Answer { arp: Arp, mac: MacAddr },
    /// To everybody on the network, as its flood mode has it.
    Flood,
}

/// Decides by the inner headers. `tagged` says that the driver took a VLAN tag off.
#[inline(always)]
pub fn forward<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    endpoint: &EndpointValue,
    tagged: bool,
    tables: &T,
) -> Result<(Ethernet, Forward), Refusal> {
    let vni = endpoint.vni;
    let refuse = |reason| Err(Refusal::new(reason, vni, 0));

    let Some(ethernet) = Ethernet::read(packet, 0) else {
        return refuse(DropReason::Truncated);
    };
    if ethernet.source != endpoint.mac {
        return refuse(DropReason::SourceMac);
    }
    if tagged || matches!(ethernet.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ) {
        return refuse(DropReason::Vlan);
    }
    if ethernet.ethertype < ETHERTYPE_MIN {
        return refuse(DropReason::Llc);
    }
    if ethernet.ethertype == ETHERTYPE_ARP {
        let Some(arp) = Arp::read(packet, ETH_LEN) else {
            return refuse(DropReason::BadArp);
        };
        if arp.sender_mac != endpoint.mac {
            return refuse(DropReason::BadArp);
        }
        if arp.operation == Operation::Request {
            return match answer(&arp, endpoint, tables) {
                Some(mac) => Ok((ethernet, Forward::Answer { arp, mac })),
                None => not_unicast(ethernet, endpoint, DropReason::UnknownNeighbor),
            };
        }
    }
    if ethernet.destination.is_multicast() {
        return not_unicast(ethernet, endpoint, DropReason::FloodDisabled);
    }
    let Some(entry) = tables.fdb(&FdbKey::new(vni, ethernet.destination)) else {
        return not_unicast(ethernet, endpoint, DropReason::UnknownDestination);
    };
    let forward = if entry.ifindex == 0 {
        Forward::Remote {
            peer: entry.peer,
            stats: entry.stats,
        }
    } else {
        Forward::Local {
            ifindex: entry.ifindex,
            stats: entry.stats,
        }
    };
    Ok((ethernet, forward))
}

/// A frame that no table has one receiver for: flooded where the network floods, else dropped.
#[inline(always)]
fn not_unicast(
    ethernet: Ethernet,
    endpoint: &EndpointValue,
    reason: DropReason,
) -> Result<(Ethernet, Forward), Refusal> {
    if endpoint.flags & endpoint_flags::FLOODS == 0 {
        return Err(Refusal::new(reason, endpoint.vni, 0));
    }
    Ok((ethernet, Forward::Flood))
}

/// Who has the target address; never the asker itself, whose probe for duplicates of its own
/// address (RFC 5227) has to stay without answer.
#[inline(always)]
fn answer<T: Tables>(arp: &Arp, endpoint: &EndpointValue, tables: &T) -> Option<MacAddr> {
    let neighbor = tables.neighbor(&NeighborKey {
        vni: endpoint.vni,
        ip: IpKey::v4(arp.target_ip),
    })?;
    (neighbor.mac != endpoint.mac).then_some(neighbor.mac)
}
