//! Frames that an endpoint of this host sends.

mod source;

use super::{Refusal, Tables, endpoint_of};
use crate::DropReason;
use crate::layout::{EndpointValue, NeighborKey, PeerIndex, Vtep, endpoint_flags, fdb_flags};
use crate::net::{IpKey, MacAddr};
use crate::packet::arp::{Arp, Operation};
use crate::packet::{ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, Packet};

/// Where an endpoint's frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To another endpoint of this host.
    Local { ifindex: u32, stats: u32 },
    /// Through the tunnel to a peer.
    Remote { peer: PeerIndex, stats: u32 },
    /// Back to the sender, whose ARP request it is: the target is at `mac`.
    Answer { mac: MacAddr },
    /// To everybody on the network, as its flood mode has it.
    Flood,
}

/// Who sends: what the programs know of a frame besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Host side of the endpoint's veth.
    pub ifindex: u32,
    pub endpoint: &'a EndpointValue,
    /// Whether the driver took a VLAN tag off.
    pub tagged: bool,
    pub vtep: &'a Vtep,
}

/// Decides by the inner headers.
#[inline(always)]
pub fn forward<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<(Ethernet, Forward), Refusal> {
    let endpoint = sender.endpoint;
    let vni = endpoint.vni;
    let refuse = |reason| Err(Refusal::new(reason, vni, 0));

    let Some(ethernet) = Ethernet::read(packet, 0) else {
        return refuse(DropReason::Truncated);
    };
    if ethernet.source != endpoint.mac {
        return refuse(DropReason::SourceMac);
    }
    let opaque = sender.tagged || matches!(ethernet.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ);
    if opaque {
        // Behind a tag is another link, of whose addresses the tables know nothing.
        if endpoint.flags & endpoint_flags::VLAN == 0 {
            return refuse(DropReason::Vlan);
        }
    } else if let Err(reason) = source::check(packet, ethernet, sender, tables) {
        return refuse(reason);
    }
    if !opaque && ethernet.ethertype == ETHERTYPE_ARP {
        let Some(arp) = Arp::read(packet, ETH_LEN) else {
            return refuse(DropReason::BadArp);
        };
        if arp.sender_mac != endpoint.mac {
            return refuse(DropReason::BadArp);
        }
        // RFC 5227, section 2.1.1: a probe is a request in nobody's name.
        let probe = arp.sender_ip == [0; 4] && arp.operation == Operation::Request;
        if !probe && !sender.owns_v4(arp.sender_ip, tables) {
            return refuse(DropReason::SourceIp);
        }
        if arp.operation == Operation::Request {
            return match answer(&arp, endpoint, tables) {
                Some(mac) => Ok((ethernet, Forward::Answer { mac })),
                None => not_unicast(ethernet, endpoint, DropReason::UnknownNeighbor),
            };
        }
    }
    if ethernet.destination.is_multicast() {
        return not_unicast(ethernet, endpoint, DropReason::FloodDisabled);
    }
    let Some(entry) = endpoint_of(tables, vni, ethernet.destination) else {
        return not_unicast(ethernet, endpoint, DropReason::UnknownDestination);
    };
    if entry.flags & fdb_flags::GATEWAY != 0 {
        return refuse(DropReason::Unroutable);
    }
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
