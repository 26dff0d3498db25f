//! Who has an address: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861), answered from
//! the tables.

use super::Sender;
use super::inspect::Inspected;
use crate::DropReason;
use crate::decide::service::SERVICE_IP;
use crate::decide::{Tables, endpoint_of};
use crate::layout::{NeighborKey, NeighborValue, fdb_flags, neighbor_flags};
use crate::net::{IpKey, MacAddr};
use crate::packet::arp::{Arp, Operation};
use crate::packet::ip::link_local_mac;
use crate::packet::nd::{Neighbor, SOLICITATION};
use crate::packet::{ETH_LEN, Ethernet, IPV6_LEN, Packet};

#[inline(always)]
pub(super) fn arp<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    sender: &Sender<'_>,
    tables: &T,
    mac: &mut MacAddr,
) -> Result<Inspected, DropReason> {
    let Some(arp) = Arp::read(packet, ETH_LEN) else {
        return Err(DropReason::BadArp);
    };
    if arp.sender_mac != sender.endpoint.mac {
        return Err(DropReason::BadArp);
    }
    // RFC 5227, section 2.1.1: a probe is a request in nobody's name.
    let probe = arp.sender_ip == [0; 4] && arp.operation == Operation::Request;
    if !probe && !sender.owns_v4(arp.sender_ip, tables) {
        return Err(DropReason::SourceIp);
    }
    if arp.operation == Operation::Reply {
        return Ok(Inspected::Pass);
    }
    // Its own address: a probe for duplicates or an announcement, which have no answer.
    if arp.target_ip == arp.sender_ip || arp.target_ip == sender.endpoint.ip4 {
        return Ok(unanswered(ethernet, Inspected::Unanswered));
    }
    if arp.target_ip == SERVICE_IP {
        *mac = MacAddr::of_gateway(sender.endpoint.vni);
        return Ok(Inspected::Arp);
    }
    let known = tables.neighbor(&NeighborKey {
        vni: sender.endpoint.vni,
        ip: IpKey::v4(arp.target_ip),
    });
    Ok(match known {
        Some(neighbor) if neighbor.mac != sender.endpoint.mac => {
            *mac = neighbor.mac;
            Inspected::Arp
        }
        Some(_) => unanswered(ethernet, Inspected::Unanswered),
        None => unanswered(ethernet, Inspected::Unknown),
    })
}

/// A neighbour solicitation or advertisement right behind the IPv6 header.
#[inline(always)]
pub(super) fn discovery<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    sender: &Sender<'_>,
    tables: &T,
    mac: &mut MacAddr,
) -> Result<Inspected, DropReason> {
    let Some(message) = Neighbor::read(packet, ETH_LEN + IPV6_LEN, sender.endpoint.mac) else {
        return Err(DropReason::BadNeighbor);
    };
    let link_local = sender.is_link_local(&message.target);
    if message.kind != SOLICITATION {
        return if link_local || sender.owns_v6(&message.target, tables) {
            Ok(Inspected::Pass)
        } else {
            Err(DropReason::BadNeighbor)
        };
    }
    // A router may send from many addresses, and asks for them all the same.
    if link_local || message.target == sender.endpoint.ip6 {
        return Ok(unanswered(ethernet, Inspected::Unanswered));
    }
    Ok(match known(&message.target, sender, tables) {
        Some(neighbor) if neighbor.mac != sender.endpoint.mac => {
            *mac = neighbor.mac;
            if neighbor.flags & neighbor_flags::ROUTER == 0 {
                Inspected::Neighbor
            } else {
                Inspected::Router
            }
        }
        Some(_) => unanswered(ethernet, Inspected::Unanswered),
        None => unanswered(ethernet, Inspected::Unknown),
    })
}

/// Who has an IPv6 address: by the table, or a link-local address by the MAC that it names.
#[inline(always)]
fn known<T: Tables>(target: &[u8; 16], sender: &Sender<'_>, tables: &T) -> Option<NeighborValue> {
    let vni = sender.endpoint.vni;
    let Some(mac) = link_local_mac(target) else {
        return tables.neighbor(&NeighborKey {
            vni,
            ip: IpKey::v6(*target),
        });
    };
    let entry = endpoint_of(tables, vni, mac)?;
    let flags = if entry.flags & fdb_flags::GATEWAY == 0 {
        0
    } else {
        neighbor_flags::ROUTER
    };
    Some(NeighborValue { mac, flags })
}

/// A question that the tables have no answer to: one to a MAC goes there.
#[inline(always)]
fn unanswered(ethernet: Ethernet, to_everybody: Inspected) -> Inspected {
    if ethernet.destination.is_multicast() {
        to_everybody
    } else {
        Inspected::Pass
    }
}
