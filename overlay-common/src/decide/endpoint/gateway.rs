//! Between the subnets of a network: the gateway that every host is.

use super::{Answer, Forward, entry};
use crate::DropReason;
use crate::decide::Tables;
use crate::layout::{NeighborKey, fdb_flags, neighbor_flags};
use crate::packet::icmp::{self, Problem};
use crate::packet::ip::{hop, is_routable};
use crate::packet::{ETHERTYPE_IPV4, Ethernet, Packet};

/// A frame to the gateway's MAC. Out of line: a program's stack is small.
#[inline(never)]
pub(super) fn route<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    vni: u32,
    tables: &T,
) -> Result<Forward, DropReason> {
    let Some(hop) = hop(packet, ethernet.ethertype) else {
        return Err(DropReason::Unroutable);
    };
    let neighbor = tables.neighbor(&NeighborKey {
        vni,
        ip: hop.destination,
    });
    if neighbor.is_some_and(|neighbor| neighbor.flags & neighbor_flags::ROUTER != 0) {
        return if is_echo_request(packet, ethernet) {
            Ok(Forward::Answer(Answer::Echo))
        } else {
            Err(DropReason::Unroutable)
        };
    }
    if !is_routable(&hop.destination) {
        return Err(DropReason::Unroutable);
    }
    let unreachable = Forward::Told {
        reason: DropReason::Unroutable,
        problem: Problem::Unreachable,
    };
    let Some(neighbor) = neighbor else {
        return Ok(unreachable);
    };
    if hop.ttl <= 1 {
        return Ok(Forward::Told {
            reason: DropReason::TimeExceeded,
            problem: Problem::TimeExceeded,
        });
    }
    Ok(match entry(vni, neighbor.mac, tables) {
        Some(entry) if entry.flags & fdb_flags::GATEWAY == 0 => Forward::Routed {
            mac: neighbor.mac,
            entry,
        },
        Some(_) | None => unreachable,
    })
}

#[inline(always)]
fn is_echo_request<P: Packet + ?Sized>(packet: &P, ethernet: Ethernet) -> bool {
    if ethernet.ethertype == ETHERTYPE_IPV4 {
        icmp::echo_v4(packet).is_some()
    } else {
        icmp::echo_v6(packet).is_some()
    }
}
