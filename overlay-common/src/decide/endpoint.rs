//! Frames that an endpoint of this host sends.

mod gateway;
mod inspect;
mod neighbor;
mod source;

use super::{Refusal, Tables};
use crate::DropReason;
use crate::layout::{EndpointValue, FdbKey, FdbValue, PeerIndex, Vtep, endpoint_flags, fdb_flags};
use crate::net::MacAddr;
use crate::packet::arp::Arp;
use crate::packet::icmp::Problem;
use crate::packet::{ETHERTYPE_MIN, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, Packet};

/// Where an endpoint's frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To another endpoint of this host.
    Local { ifindex: u32, stats: u32 },
    /// Through the tunnel to a peer.
    Remote { peer: PeerIndex, stats: u32 },
    /// To an endpoint on another subnet of the network: with its MAC as destination and one hop
    /// less to live, then like a frame that was sent to it.
    Routed { mac: MacAddr, entry: FdbValue },
    /// To everybody on the network, as its flood mode has it.
    Flood,
    /// Back to the sender: its question answered.
    Answer(Answer),
    /// Dropped, and the sender is told why.
    Told {
        reason: DropReason,
        problem: Problem,
    },
}

/// An answer in place of the frame that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The target of an ARP request is at `mac`.
    Arp { arp: Arp, mac: MacAddr },
    /// The target of a neighbour solicitation is at `mac`.
    Neighbor { mac: MacAddr, router: bool },
    /// The gateway's, to an echo request.
    Echo,
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

/// What the inner headers say of a frame that may be sent.
enum Inspected {
    /// The destination MAC decides.
    Pass,
    Answer(Answer),
    /// Has no one receiver; the reason to drop it where the network does not flood.
    NotUnicast(DropReason),
}

/// Decides by the inner headers. The Ethernet header is the frame's as it came.
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
    } else if ethernet.ethertype < ETHERTYPE_MIN {
        return refuse(DropReason::Llc);
    } else {
        match inspect::inspect(packet, ethernet, sender, tables) {
            Ok(Inspected::Pass) => {}
            Ok(Inspected::Answer(answer)) => return Ok((ethernet, Forward::Answer(answer))),
            Ok(Inspected::NotUnicast(reason)) => return not_unicast(ethernet, endpoint, reason),
            Err(reason) => return refuse(reason),
        }
    }
    if ethernet.destination.is_multicast() {
        return not_unicast(ethernet, endpoint, DropReason::FloodDisabled);
    }
    let entry = match entry(vni, ethernet.destination, tables) {
        Some(entry) => entry,
        None => return not_unicast(ethernet, endpoint, DropReason::UnknownDestination),
    };
    if entry.ifindex == 0 && entry.flags & fdb_flags::GATEWAY != 0 {
        if opaque {
            return refuse(DropReason::Unroutable);
        }
        return match gateway::route(packet, ethernet, vni, tables) {
            Ok(forward) => Ok((ethernet, forward)),
            Err(reason) => refuse(reason),
        };
    }
    Ok((ethernet, Forward::to(&entry)))
}

impl Forward {
    /// To the endpoint behind an entry of FDB.
    #[inline(always)]
    pub const fn to(entry: &FdbValue) -> Self {
        if entry.ifindex == 0 {
            Self::Remote {
                peer: entry.peer,
                stats: entry.stats,
            }
        } else {
            Self::Local {
                ifindex: entry.ifindex,
                stats: entry.stats,
            }
        }
    }
}

/// The entry of a MAC, if it is still that of the network when it is read.
#[inline(always)]
fn entry<T: Tables>(vni: u32, mac: MacAddr, tables: &T) -> Option<FdbValue> {
    tables
        .fdb(&FdbKey::new(vni, mac))
        .filter(|entry| entry.vni == vni)
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
