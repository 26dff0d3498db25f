//! Endpoints of a container engine: it asks for the addresses first, gives the endpoint its id, and
//! puts the interface into the container.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_common::net::{MacAddr, Vni};

use super::local::routes;
use super::{addresses, owner};
use crate::api::types::{Endpoint, EndpointState};
use crate::control::agent::{Agent, device_name, peer_name};
use crate::control::error::AgentError;
use crate::host::endpoint::{self, LooseEndpoint, Route};
use crate::ipam::{Family, IpamError, Lease, Pool, Want};
use crate::store::schema::{
    AddressRecord, EndpointId, EndpointRecord, GATEWAY_HOLDER, Network, Owner, RESERVED_HOLDER,
};

/// How long whoever asks for an endpoint waits for it.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long an engine may take, from when it gets an address, to know for what.
const UNKNOWN: Duration = Duration::from_secs(60);

/// An endpoint to be made for a container engine.
#[derive(Clone, Debug)]
pub struct Handed {
    pub network: Network,
    pub id: EndpointId,
    /// Held by this host already.
    pub ips: Vec<IpAddr>,
    pub mac: Option<MacAddr>,
}

impl Agent {
    /// An address of a subnet for an endpoint that has no id yet. One that this host holds already is
    /// given again: after a restart an engine asks for those that it has given out.
    pub(crate) async fn lend(
        &self,
        network: &Network,
        subnet: IpNet,
        wanted: Option<IpAddr>,
    ) -> Result<IpAddr, AgentError> {
        let net = network.record.vni;
        let owner = Owner {
            node: self.node,
            endpoint: EndpointId::random_of_docker(),
        };
        self.lending(&owner.endpoint);
        if let Some(ip) = wanted
            && self.holds(net, ip).await?
        {
            return Ok(ip);
        }
        let _known = self.know(net).await;
        let pool = Pool::of(&network.record)
            .without(self.allowed_on(net))
            .within(subnet);
        let want = wanted.map_or(Want::Any(Family::of(subnet.addr())), Want::Address);
        match self.ipam.allocate(&pool, &want, &owner).await {
            Ok(lease) => Ok(lease.ip),
            Err(IpamError::Unsettled { lease, source }) => {
                let undone = self.ipam.free(net, lease.ip, &owner, None).await;
                if let Err(error) = undone {
                    tracing::warn!("{} may stay taken: {error}", lease.ip);
                }
                Err(source.into())
            }
            Err(error) => Err(self.name_holder(net, error)),
        }
    }

    /// Whether an address is this host's already, by what is known here or, if it is not an endpoint's,
    /// by the store.
    async fn holds(&self, net: Vni, ip: IpAddr) -> Result<bool, AgentError> {
        if self.endpoint_with(net, ip).is_some() {
            return Ok(true);
        }
        let Some(record) = self.ipam.holder(net, ip).await? else {
            return Ok(false);
        };
        if record.is_nobodys() {
            return Ok(true);
        }
        if let Ok(endpoint) = record.endpoint.parse() {
            self.lending(&endpoint);
        }
        Ok(record.node == self.node)
    }

    /// Keeps an address from those who look for what nobody has, until its user is known.
    fn lending(&self, to: &EndpointId) {
        let lent = &mut self.state().lent;
        lent.retain(|_, at| at.elapsed() < UNKNOWN);
        lent.insert(to.clone(), Instant::now());
    }

    /// This host's endpoint with an address.
    fn endpoint_with(&self, net: Vni, ip: IpAddr) -> Option<EndpointId> {
        let state = self.state();
        let mut locals = state.locals.iter();
        let found = locals.find(|(_, local)| {
            local.vni == net && !local.leaving && local.record.addresses().any(|own| own == ip)
        });
        found.map(|(id, _)| id.clone())
    }

    /// Frees an address unless the endpoint that holds it is there.
    pub(crate) async fn give_back(&self, net: Vni, ip: IpAddr) -> Result<(), AgentError> {
        if let Some(record) = self.ipam.holder(net, ip).await? {
            self.give_back_as(net, ip, &record).await?;
        }
        Ok(())
    }

    /// Frees an address that is held as `record` says, unless that endpoint is there. Another one with the
    /// address may be: of an engine's container that ended while the store was away, and that the engine took
    /// for released. `false` when it was not.
    pub(crate) async fn give_back_as(
        &self,
        net: Vni,
        ip: IpAddr,
        record: &AddressRecord,
    ) -> Result<bool, AgentError> {
        let Ok(endpoint) = record.endpoint.parse() else {
            return Ok(false);
        };
        if record.node != self.node || self.local_endpoint(&endpoint).is_some() {
            return Ok(false);
        }
        let owner = Owner {
            node: self.node,
            endpoint,
        };
        self.let_go(net, ip, &owner, Some(record.nonce), None).await
    }

    /// Makes an endpoint, its interface still on this host.
    ///
    /// # Errors
    /// Also when it takes too long: then nobody waits for it any more.
    pub(crate) async fn add_handed(&self, new: &Handed) -> Result<EndpointRecord, AgentError> {
        let asked = Instant::now();
        let _one_at_a_time = self.operations.lock().await;
        self.require_synced()?;
        self.require_registered().await?;
        let net = new.network.record.vni;
        let _known = self.know(net).await;
        let path = self.own_path(net, &new.id);
        self.lending(&new.id);
        for ip in &new.ips {
            self.refuse_taken(net, *ip, &new.id).await?;
        }
        self.refuse_duplicate(&new.network, &new.id.to_string(), new.mac)?;
        let mut leases: Vec<Lease> = Vec::new();
        for ip in &new.ips {
            let handed = self.ipam.hand_over(net, *ip, &owner(&path)).await;
            leases.push(handed.map_err(|error| self.not_handed(net, *ip, error))?);
        }
        if asked.elapsed() > PATIENCE {
            return Err(AgentError::TooLate);
        }
        let record = addresses::record(new.id.to_string(), &leases, new.mac);
        let device = device_name(&path.id);
        let loose = LooseEndpoint {
            device: &device,
            id: &path.id.to_string(),
            peer: &peer_name(&path.id),
            mac: record.mac,
            mtu: self.mtu_on(&new.network.record),
        };
        endpoint::create_loose(&self.netlink, &self.owner, &loose).await?;
        self.join_or_undo(&path, &record, &device, None).await?;
        Ok(record)
    }

    /// Refuses an address that another endpoint of this host has. One that its container has left gives way:
    /// its engine could not say so, and asks for the same address when it starts the container again.
    async fn refuse_taken(&self, net: Vni, ip: IpAddr, id: &EndpointId) -> Result<(), AgentError> {
        let Some(by) = self.endpoint_with(net, ip).filter(|by| by != id) else {
            return Ok(());
        };
        let Some((_, record)) = self.local_endpoint(&by) else {
            return Ok(());
        };
        let path = self.own_path(net, &by);
        let endpoint = self.shown_now(&path, &record);
        if by.is_of_docker() && self.is_left(&by, &endpoint).await? {
            self.take_out(&path).await?;
            self.state().locals.remove(&by);
            return Ok(());
        }
        let by = format!("{} ({}) on {}", endpoint.name, endpoint.id, endpoint.node);
        Err(AgentError::IpTaken { ip, by })
    }

    /// Whether an engine's endpoint is nobody's any more: its device went with the container's namespace or
    /// with the host's last start, or the container's end of it is back on the host.
    async fn is_left(&self, id: &EndpointId, endpoint: &Endpoint) -> Result<bool, AgentError> {
        if endpoint.state == EndpointState::Gone {
            return Ok(true);
        }
        // Before it has its container it is on the host as well.
        let had_container = endpoint.container.is_some();
        Ok(had_container && self.netlink.link(&peer_name(id)).await?.is_some())
    }

    /// Why an address that was lent could not be given to its endpoint.
    fn not_handed(&self, net: Vni, ip: IpAddr, error: IpamError) -> AgentError {
        match error {
            IpamError::NotHeld(_) => AgentError::LeaseGone(ip),
            IpamError::Taken { by: Some(by), .. } if by.endpoint == GATEWAY_HOLDER => {
                IpamError::Gateway(ip).into()
            }
            IpamError::Taken { by: Some(by), .. } if by.endpoint == RESERVED_HOLDER => {
                IpamError::Reserved(ip).into()
            }
            error => self.name_holder(net, error),
        }
    }

    /// Whether an endpoint of this host has been there since before a moment.
    pub(crate) fn is_since(&self, id: &EndpointId, before: Instant) -> bool {
        let state = self.state();
        let local = state.locals.get(id);
        local.is_some_and(|local| local.made.is_none_or(|made| made < before))
    }

    /// Whether an engine was given what has this id before a moment: in an earlier run if nothing is known.
    pub(crate) fn is_lent_since(&self, id: &EndpointId, before: Instant) -> bool {
        self.state().lent.get(id).is_none_or(|at| *at < before)
    }

    /// By way of the network's gateways to its other subnets. The way out is the engine's.
    pub(crate) fn inner_routes(&self, network: &Network, record: &EndpointRecord) -> Vec<Route> {
        let routes = routes(&network.record, record).into_iter();
        routes
            .filter(|route| route.destination.prefix_len() != 0)
            .collect()
    }

    /// This host's endpoint with an id: its network and what is said of it.
    pub(crate) fn local_endpoint(&self, id: &EndpointId) -> Option<(Vni, EndpointRecord)> {
        let state = self.state();
        let local = state.locals.get(id).filter(|local| !local.leaving)?;
        Some((local.vni, local.record.clone()))
    }

    /// Removes an endpoint; its addresses stay held until they are given back. One that is not there
    /// is no error.
    pub(crate) async fn remove_handed(&self, net: Vni, id: &EndpointId) -> Result<(), AgentError> {
        let _one_at_a_time = self.operations.lock().await;
        self.require_synced()?;
        let path = self.own_path(net, id);
        self.take_out(&path).await?;
        self.state().locals.remove(id);
        // Its MAC is free: the next one may have it.
        self.echo(|view| !view.endpoints.contains_key(&path)).await;
        Ok(())
    }

    /// Removes devices of endpoints that are neither in the store nor anywhere else, by their ids.
    pub(crate) async fn sweep_devices(
        &self,
        is_left: impl Fn(&str) -> bool,
    ) -> Result<(), AgentError> {
        let _one_at_a_time = self.operations.lock().await;
        for (id, link) in endpoint::list(&self.netlink, &self.owner).await? {
            let known = id
                .parse()
                .is_ok_and(|id: EndpointId| self.state().locals.contains_key(&id));
            if !known && is_left(&id) {
                tracing::warn!(
                    device = link.name,
                    "left of an endpoint that is gone: removing it"
                );
                endpoint::remove(&self.netlink, &self.owner, &link.name).await?;
                self.datapath.lock().await.detach_endpoint(&link.name)?;
                self.state().orphans.retain(|orphan| !orphan.is_of(&id));
            }
        }
        Ok(())
    }

    /// Changes name and container of this host's endpoint.
    pub(crate) async fn describe(
        &self,
        id: &EndpointId,
        name: &str,
        container: Option<String>,
    ) -> Result<(), AgentError> {
        self.redescribe(id, |record| {
            name.clone_into(&mut record.name);
            record.container = container;
            true
        })
        .await
        .map(drop)
    }

    /// Changes what else this host's endpoint is called. `false` when it has another name by now.
    pub(crate) async fn describe_aliases(
        &self,
        id: &EndpointId,
        name: &str,
        aliases: Vec<String>,
    ) -> Result<bool, AgentError> {
        self.redescribe(id, |record| {
            record.aliases = aliases;
            record.name == name
        })
        .await
    }

    /// `false` when it was not changed, because `change` wants none.
    async fn redescribe(
        &self,
        id: &EndpointId,
        change: impl FnOnce(&mut EndpointRecord) -> bool,
    ) -> Result<bool, AgentError> {
        let _one_at_a_time = self.operations.lock().await;
        let Some((net, before)) = self.local_endpoint(id) else {
            return Ok(true);
        };
        let mut record = before.clone();
        if !change(&mut record) {
            return Ok(false);
        }
        if record == before {
            return Ok(true);
        }
        let path = self.own_path(net, id);
        let described = self.registry.describe_endpoint(&path, &record).await?;
        if described && let Some(local) = self.state().locals.get_mut(id) {
            local.record = record;
        }
        Ok(described)
    }
}
