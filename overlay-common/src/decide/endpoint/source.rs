//! Whose addresses an endpoint speaks for.

use super::Sender;
use crate::decide::Tables;
use crate::layout::{AllowedKey, endpoint_flags};
use crate::net::IpKey;
use crate::packet::ip::link_local;

impl Sender<'_> {
    /// Whether the endpoint may send from an IPv4 address.
    #[inline(always)]
    pub(super) fn owns_v4<T: Tables>(&self, ip: [u8; 4], tables: &T) -> bool {
        if ip == self.endpoint.ip4 && ip != [0; 4] {
            return true;
        }
        self.is_allowed(IpKey::v4(ip), tables)
    }

    /// Whether the endpoint may send from an IPv6 address other than its link-local one.
    #[inline(always)]
    pub(super) fn owns_v6<T: Tables>(&self, ip: &[u8; 16], tables: &T) -> bool {
        if *ip == self.endpoint.ip6 && *ip != [0; 16] {
            return true;
        }
        self.is_allowed(IpKey::v6(*ip), tables)
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
