//! Between the subnets of a network: the gateway that every host is.

use super::exception::Exception;
use crate::DropReason;
use crate::decide::{Tables, endpoint_of};
use crate::layout::{NeighborKey, fdb_flags, neighbor_flags};
use crate::net::MacAddr;
use crate::packet::icmp;
use crate::packet::ip::{hop, is_routable};
use crate::packet::{ETHERTYPE_IPV4, Ethernet, Packet};

/// A frame to the gateway's MAC. The gateway itself answers echo requests and nothing else.
#[inline(always)]
pub(super) fn route<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    vni: u32,
    tables: &T,
    mac: &mut MacAddr,
) -> Result<Exception, DropReason> {
    let Some(hop) = hop(packet, ethernet.ethertype) else {
        return Err(DropReason::Unroutable);
    };
    let neighbor = tables.neighbor(&NeighborKey {
        vni,
        ip: hop.destination,
    });
    if neighbor.is_some_and(|neighbor| neighbor.flags & neighbor_flags::ROUTER != 0) {
        return if is_echo_request(packet, ethernet) {
            Ok(Exception::Echo)
        } else {
            Err(DropReason::Unroutable)
        };
    }
    if !is_routable(&hop.destination) {
        return Err(DropReason::Unroutable);
    }
    let Some(neighbor) = neighbor else {
        return Ok(Exception::Unreachable);
    };
    if hop.ttl <= 1 {
        return Ok(Exception::TimeExceeded);
    }
    *mac = neighbor.mac;
    Ok(match endpoint_of(tables, vni, neighbor.mac) {
        Some(entry) if entry.flags & fdb_flags::GATEWAY == 0 => Exception::Route,
        Some(_) | None => Exception::Unreachable,
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
