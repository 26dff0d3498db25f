//! The way of a container to the service address.
//!
//! Docker puts a route of each network's driver into the container, and refuses the second to one destination.
//! So each network of a container has a longer or shorter prefix around the address: the kernel takes the
//! longest, and the next one when that network is left.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Docker;
use super::table::Entries;
use crate::host::service;
use crate::store::schema::EndpointId;

/// Shorter prefixes would take addresses of others: 169.254.53.0/24 is as good as the one address, which is as
/// many networks of a container as have a way.
const SHORTEST: u8 = 24;

/// An endpoint that has been joined to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Joined {
    /// Path of the container's namespace, by which containers are told apart.
    sandbox: String,
    /// Of the route that it has.
    prefix_len: u8,
}

impl Docker {
    /// The route that a container gets with an endpoint; `None` when it has enough of them.
    pub(super) fn route_to_service(&self, endpoint: &str, sandbox: &str) -> Option<Ipv4Net> {
        let mut found = None;
        self.joined.change(|joined| {
            found = free(joined, endpoint, sandbox);
            if let Some(net) = found {
                let joins = Joined {
                    sandbox: sandbox.to_owned(),
                    prefix_len: net.prefix_len(),
                };
                joined.insert(endpoint.to_owned(), joins);
            }
        });
        found
    }

    /// The endpoint's route is gone with it.
    pub(super) fn left(&self, endpoint: &str) {
        self.joined.change(|joined| {
            joined.remove(endpoint);
        });
    }

    /// Forgets endpoints of which nobody said that they are gone.
    pub(super) fn forget_left(&self) {
        let is_here = |id: &String| {
            let id: Option<EndpointId> = id.parse().ok();
            id.is_some_and(|id| self.agent.local_endpoint(&id).is_some())
        };
        self.joined
            .change(|joined| joined.retain(|id, _| is_here(id)));
    }
}

fn free(joined: &Entries<Joined>, endpoint: &str, sandbox: &str) -> Option<Ipv4Net> {
    let taken = |prefix_len| {
        let mut others = joined.iter().filter(|(id, _)| *id != endpoint);
        others.any(|(_, other)| other.sandbox == sandbox && other.prefix_len == prefix_len)
    };
    let free = (SHORTEST..=32)
        .rev()
        .find(|prefix_len| !taken(*prefix_len))?;
    around(service::ADDRESS, free)
}

fn around(address: Ipv4Addr, prefix_len: u8) -> Option<Ipv4Net> {
    Some(Ipv4Net::new(address, prefix_len).ok()?.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_of_a_container_has_a_way_of_its_own() {
        let mut joined = Entries::new();
        let mut join = |id: &str, sandbox: &str| {
            let net = free(&joined, id, sandbox)?;
            let joins = Joined {
                sandbox: sandbox.to_owned(),
                prefix_len: net.prefix_len(),
            };
            joined.insert(id.to_owned(), joins);
            Some(net.to_string())
        };
        assert_eq!(join("a", "x").unwrap(), "169.254.53.53/32");
        assert_eq!(join("b", "x").unwrap(), "169.254.53.52/31");
        assert_eq!(join("c", "x").unwrap(), "169.254.53.52/30");
        assert_eq!(join("d", "y").unwrap(), "169.254.53.53/32");
        // Asked again.
        assert_eq!(join("b", "x").unwrap(), "169.254.53.52/31");
        for (id, last) in ["e", "f", "g", "h", "i", "j"].into_iter().zip(0..) {
            let net: Ipv4Net = join(id, "x").unwrap().parse().unwrap();
            assert_eq!(net.prefix_len(), 29 - last);
            assert!(net.contains(&service::ADDRESS));
        }
        assert_eq!(join("k", "x"), None);
    }
}
