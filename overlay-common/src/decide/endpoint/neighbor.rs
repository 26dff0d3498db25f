//! Who has an address: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861), answered from
//! the tables.

use super::{Answer, Inspected, Sender, entry};
use crate::DropReason;
use crate::decide::Tables;
use crate::layout::{NeighborKey, NeighborValue, fdb_flags, neighbor_flags};
use crate::net::IpKey;
use crate::packet::arp::{Arp, Operation};
use crate::packet::ip::link_local_mac;
use crate::packet::nd::{Neighbor, SOLICITATION};
use crate::packet::{ETH_LEN, Ethernet, IPV6_LEN, Packet};

/// Out of line: a program's stack is small.
#[inline(never)]
pub(super) fn arp<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    sender: &Sender<'_>,
    tables: &T,
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
        return Ok(unanswered(ethernet, DropReason::FloodDisabled));
    }
    let known = tables.neighbor(&NeighborKey {
        vni: sender.endpoint.vni,
        ip: IpKey::v4(arp.target_ip),
    });
    Ok(match known {
        Some(neighbor) if neighbor.mac != sender.endpoint.mac => Inspected::Answer(Answer::Arp {
            arp,
            mac: neighbor.mac,
        }),
        Some(_) => unanswered(ethernet, DropReason::FloodDisabled),
        None => unanswered(ethernet, DropReason::UnknownNeighbor),
    })
}

/// A neighbour solicitation or advertisement at `offset`. Out of line: a program's stack is small.
#[inline(never)]
pub(super) fn discovery<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ethernet: Ethernet,
    offset: usize,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<Inspected, DropReason> {
    let Some(message) = Neighbor::read(packet, offset) else {
        return Err(DropReason::BadNeighbor);
    };
    if message.mac.is_some_and(|mac| mac != sender.endpoint.mac) {
        return Err(DropReason::BadNeighbor);
    }
    let own = sender.is_link_local(&message.target) || sender.owns_v6(&message.target, tables);
    if message.kind != SOLICITATION {
        return if own {
            Ok(Inspected::Pass)
        } else {
            Err(DropReason::BadNeighbor)
        };
    }
    if own {
        return Ok(unanswered(ethernet, DropReason::FloodDisabled));
    }
    Ok(match known(&message.target, sender, tables) {
        // Extension headers in front: nobody sends that, and it is not worth a second way.
        Some(_) if offset != ETH_LEN + IPV6_LEN => {
            unanswered(ethernet, DropReason::UnknownNeighbor)
        }
        Some(neighbor) if neighbor.mac != sender.endpoint.mac => {
            Inspected::Answer(Answer::Neighbor {
                mac: neighbor.mac,
                router: neighbor.flags & neighbor_flags::ROUTER != 0,
            })
        }
        Some(_) => unanswered(ethernet, DropReason::FloodDisabled),
        None => unanswered(ethernet, DropReason::UnknownNeighbor),
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
    let entry = entry(vni, mac, tables)?;
    let flags = if entry.flags & fdb_flags::GATEWAY == 0 {
        0
    } else {
        neighbor_flags::ROUTER
    };
    Some(NeighborValue { mac, flags })
}

/// A question that the tables have no answer to: one to a MAC goes there, one to everybody has no
/// one receiver.
#[inline(always)]
const fn unanswered(ethernet: Ethernet, reason: DropReason) -> Inspected {
    if ethernet.destination.is_multicast() {
        Inspected::NotUnicast(reason)
    } else {
        Inspected::Pass
    }
}
