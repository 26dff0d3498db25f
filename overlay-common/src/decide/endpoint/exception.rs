//! What is not plain unicast: questions about neighbours, frames for the gateway or for everybody.

use super::inspect::{self, Inspected};
use super::{Sender, gateway, neighbor, own_frame};
use crate::DropReason;
use crate::decide::{Tables, endpoint_of, service};
use crate::layout::{endpoint_flags, fdb_flags};
use crate::net::MacAddr;
use crate::packet::{ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, Packet};

/// What becomes of a frame that [`super::forward`] does not decide. Without values in the variants: of
/// an enum with values the compiler copies bytes that were never written, which the verifier refuses.
/// So the MAC that some are about is apart.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// To the endpoint with the MAC, which the frame names.
    Send = 0,
    /// To the endpoint with the MAC, on another subnet of the network: by way of the gateway.
    Route = 1,
    /// To everybody on the network, as its flood mode has it.
    Flood = 2,
    /// Back to the sender: the target of its ARP request is at the MAC.
    Arp = 3,
    /// Neighbour discovery, to be decided by [`discovery`].
    Discovery = 4,
    /// Back to the sender: the target of its neighbour solicitation is at the MAC.
    Neighbor = 5,
    /// The same, and the target is the gateway.
    Router = 6,
    /// Back to the sender: the gateway's answer to an echo request.
    Echo = 7,
    /// Dropped, and the sender is told that the TTL or hop limit has ended.
    TimeExceeded = 8,
    /// Dropped, and the sender is told that nobody has the address.
    Unreachable = 9,
    /// To the agent of this host, at the service address.
    Service = 10,
}

impl Exception {
    const ALL: [Self; 11] = [
        Self::Send,
        Self::Route,
        Self::Flood,
        Self::Arp,
        Self::Discovery,
        Self::Neighbor,
        Self::Router,
        Self::Echo,
        Self::TimeExceeded,
        Self::Unreachable,
        Self::Service,
    ];

    /// The variant of a number.
    #[inline(always)]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exception| *exception as u8 == number)
    }
}

/// Decides by the inner headers, all over again: nothing that [`super::forward`] has found is relied on.
/// A refusal is counted under the endpoint's network. `mac` is set where the decision is about one.
#[inline(always)]
pub fn exception<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    sender: &Sender<'_>,
    tables: &T,
    mac: &mut MacAddr,
) -> Result<Exception, DropReason> {
    let endpoint = sender.endpoint;
    let ethernet = own_frame(packet, sender)?;
    *mac = ethernet.destination;
    let opaque = sender.tagged || matches!(ethernet.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ);
    let inspected = if !opaque {
        inspect::inspect(packet, ethernet, sender, tables, mac)?
    } else if endpoint.flags & endpoint_flags::VLAN != 0 {
        // Behind a tag is another link, of whose addresses the tables know nothing.
        Inspected::Pass
    } else {
        return Err(DropReason::Vlan);
    };
    conclude(packet, ethernet, inspected, sender, tables, mac)
}

/// Decides what [`exception`] has found to be neighbour discovery: apart, because both together are too much
/// for the stack of a program.
#[inline(always)]
pub fn discovery<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    sender: &Sender<'_>,
    tables: &T,
    mac: &mut MacAddr,
) -> Result<Exception, DropReason> {
    let ethernet = own_frame(packet, sender)?;
    *mac = ethernet.destination;
    let inspected = neighbor::discovery(packet, ethernet, sender, tables, mac)?;
    conclude(packet, ethernet, inspected, sender, tables, mac)
}

#[inline(always)]
fn conclude<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    inspected: Inspected,
    sender: &Sender<'_>,
    tables: &T,
    mac: &mut MacAddr,
) -> Result<Exception, DropReason> {
    let endpoint = sender.endpoint;
    let not_unicast = |reason| {
        // Flooded where the network floods.
        if endpoint.flags & endpoint_flags::FLOODS == 0 {
            Err(reason)
        } else {
            Ok(Exception::Flood)
        }
    };
    match inspected {
        Inspected::Arp => return Ok(Exception::Arp),
        Inspected::Discovery => return Ok(Exception::Discovery),
        Inspected::Neighbor => return Ok(Exception::Neighbor),
        Inspected::Router => return Ok(Exception::Router),
        Inspected::Unknown => return not_unicast(DropReason::UnknownNeighbor),
        Inspected::Unanswered => return not_unicast(DropReason::FloodDisabled),
        Inspected::Pass => {}
    }
    if ethernet.destination.is_multicast() {
        return not_unicast(DropReason::FloodDisabled);
    }
    if !sender.tagged && service::is_for(packet, ethernet, endpoint) {
        return Ok(Exception::Service);
    }
    match endpoint_of(tables, endpoint.vni, ethernet.destination) {
        None => not_unicast(DropReason::UnknownDestination),
        Some(entry) if entry.flags & fdb_flags::GATEWAY == 0 => Ok(Exception::Send),
        // A router knows nothing of what is behind a tag.
        Some(_) if sender.tagged => Err(DropReason::Unroutable),
        Some(_) => gateway::route(packet, ethernet, endpoint.vni, tables, mac),
    }
}
