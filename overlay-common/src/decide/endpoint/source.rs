//! Whose addresses an endpoint speaks for, and whom it may not speak to.

use network_types::udp::UdpHdr;

use super::Sender;
use crate::DropReason;
use crate::decide::Tables;
use crate::layout::{AllowedKey, endpoint_flags};
use crate::net::IpKey;
use crate::packet::Packet;
use crate::packet::ip::link_local;

impl Sender<'_> {
    /// Whether the endpoint may send from an IPv4 address.
    #[inline(always)]
    pub(super) fn owns_v4<T: Tables>(&self, ip: [u8; 4], tables: &T) -> bool {
        (ip == self.endpoint.ip4 && ip != [0; 4]) || self.is_allowed(IpKey::v4(ip), tables)
    }

    /// Whether the endpoint may send from an IPv6 address other than its link-local one.
    #[inline(always)]
    pub(super) fn owns_v6<T: Tables>(&self, ip: &[u8; 16], tables: &T) -> bool {
        (*ip == self.endpoint.ip6 && *ip != [0; 16]) || self.is_allowed(IpKey::v6(*ip), tables)
    }

    /// Whether an address is the link-local one of the endpoint's MAC.
    #[inline(always)]
    pub(super) fn is_link_local(&self, ip: &[u8; 16]) -> bool {
        *ip == link_local(self.endpoint.mac)
    }

    /// ALLOWED is asked only where the endpoint has an entry in it.
    #[inline(always)]
    fn is_allowed<T: Tables>(&self, ip: IpKey, tables: &T) -> bool {
        self.endpoint.flags & endpoint_flags::ALLOWED != 0
            && tables.allowed(&AllowedKey {
                ifindex: self.ifindex,
                ip,
            })
    }
}

/// Refuses UDP to the VXLAN port of a VTEP: its receiver could not tell it from this host's own. The UDP
/// header is at `offset`. The `destination` is asked for only where the port is that one: it is a third of a
/// program's stack.
#[inline(always)]
pub(super) fn refuse_vtep<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    offset: usize,
    destination: impl FnOnce() -> Option<IpKey>,
    sender: &Sender<'_>,
    tables: &T,
) -> Result<(), DropReason> {
    let vtep = sender.vtep;
    let Some(udp) = packet.header::<UdpHdr>(offset) else {
        return Ok(());
    };
    if u32::from(u16::from_be_bytes(udp.dst)) != vtep.port {
        return Ok(());
    }
    let destination = destination().ok_or(DropReason::Truncated)?;
    if destination == vtep.ip4 || destination == vtep.ip6 || tables.peer(&destination).is_some() {
        return Err(DropReason::VtepPort);
    }
    Ok(())
}
