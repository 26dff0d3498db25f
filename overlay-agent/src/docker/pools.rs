//! Which subnets a network may have that is made in Docker.

use ipnet::IpNet;
use rand::Rng as _;

use super::Docker;
use super::error::DockerError;
use crate::store::schema::subnets;

impl Docker {
    /// A subnet for a network without one: what no other network of the overlay and no route of this host
    /// overlaps.
    pub(super) async fn free_subnet(&self) -> Result<IpNet, DockerError> {
        self.agent.require_synced()?;
        let mut taken = self.agent.subnets();
        taken.extend(self.agent.taken_out_there().await?);
        let (place, hosts) = self.agent.place();
        // Chosen and marked in one step. Other hosts choose at the same moment, and the store is told later.
        let mut making = self.making();
        taken.extend(making.subnets());
        let start = rand::rng().random();
        let free = subnets::free_for(place, hosts, start, &taken);
        let free = free.ok_or(DockerError::NoSubnetLeft)?;
        making.ask(free);
        Ok(free)
    }

    /// Docker's networks are apart by their addresses: a container may be on several, and on the host
    /// besides.
    pub(super) async fn refuse_overlap(&self, own: &[IpNet]) -> Result<(), DockerError> {
        self.agent.require_synced()?;
        let routes = self.agent.host_routes().await?;
        for subnet in own {
            let refused = |with| DockerError::Overlap {
                subnet: *subnet,
                with,
            };
            let of_overlay = self.agent.network_where(|_, record| {
                let mut subnets = record.subnets.iter();
                subnets.any(|other| subnets::overlap(other, subnet))
            });
            if let Some(network) = of_overlay {
                return Err(refused(format!("network {}", network.name)));
            }
            if let Some(route) = routes.iter().find(|route| subnets::overlap(route, subnet)) {
                return Err(refused(format!("{route}, which this host has a route to")));
            }
        }
        Ok(())
    }
}
