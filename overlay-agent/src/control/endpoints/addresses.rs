//! The addresses of an endpoint: one of each family, all of them or none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use overlay_common::net::{MacAddr, Vni};
use sha2::{Digest as _, Sha256};

use crate::api::types::{At, EndpointRequest};
use crate::control::agent::Agent;
use crate::control::error::AgentError;
use crate::control::view::View;
use crate::ipam::{Family, IpamError, Lease, Pool, Want};
use crate::store::schema::{
    EndpointId, EndpointPath, EndpointRecord, Extra, Network, NetworkRecord, NodeId, Nonce, Owner,
};

/// MAC of an endpoint that asked for none, as Docker makes it: locally administered, and as
/// unique on the network as the address.
pub fn mac_for(ip: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = ip.octets();
    MacAddr([0x02, 0x42, a, b, c, d])
}

/// The same for an endpoint without IPv4: locally administered, and 40 bits of the address's
/// SHA-256. Its last bits would be alike in every subnet of a network.
pub fn mac_for_v6(ip: Ipv6Addr) -> MacAddr {
    let hash: [u8; 32] = Sha256::digest(ip.octets()).into();
    let [a, b, c, d, e, ..] = hash;
    MacAddr([0x06, a, b, c, d, e])
}

impl Agent {
    /// Claims what was asked for. After a failure nothing stays claimed.
    pub(super) async fn lease(
        self: &Arc<Self>,
        network: &Network,
        path: &EndpointPath,
        request: &EndpointRequest,
    ) -> Result<Vec<Lease>, AgentError> {
        let wants = wants(&network.record, request)?;
        let allowed = self.allowed_on(network.record.vni);
        let pool = Pool::of(&network.record).without(allowed);
        let owner = owner(path);
        let mut leases = Vec::new();
        for want in wants {
            let want = self.rather_again(network.record.vni, request.name.as_deref(), want);
            match self.ipam.allocate(&pool, &want, &owner).await {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    if let IpamError::Unsettled { lease, .. } = &error {
                        leases.push(*lease);
                    }
                    self.clear(path.clone(), leases).await;
                    return Err(self.name_holder(network.record.vni, error));
                }
            }
        }
        Ok(leases)
    }

    /// An endpoint whose user has named it gets what the one of that name had here.
    pub(super) fn rather_again(&self, net: Vni, name: Option<&str>, want: Want) -> Want {
        let former = match (&want, name) {
            (Want::Any(family), Some(name)) => self.released.former(net, name, *family),
            (Want::Any(_) | Want::Address(_) | Want::Again(_), _) => None,
        };
        former.map_or(want, Want::Again)
    }

    /// The same error, with the holder of a taken address by its names.
    pub(super) fn name_holder(&self, net: Vni, error: IpamError) -> AgentError {
        let (ip, claim) = match error {
            IpamError::Taken {
                ip,
                by: Some(claim),
            } => (ip, claim),
            other => return other.into(),
        };
        let of: Option<EndpointId> = claim.endpoint.parse().ok();
        let state = self.state();
        let local = state.locals.iter().map(|(id, local)| (id, &local.record));
        let published = state.view.endpoints.iter();
        let published = published.filter(|(path, _)| path.net == net && path.node == claim.node);
        let name = published
            .map(|(path, record)| (&path.id, record))
            .chain(local)
            .find(|(id, _)| of.as_ref() == Some(*id))
            .map(|(_, record)| record.name.as_str())
            .filter(|name| *name != claim.endpoint);
        let id = claim.endpoint.escape_debug();
        let node = node_name(&state.view, claim.node);
        let by = match name {
            Some(name) => format!("{} ({id}) on {node}", name.escape_debug()),
            None => format!("{id} on {node}"),
        };
        AgentError::IpTaken { ip, by }
    }

    /// Releases the addresses of an endpoint that is gone.
    pub(in crate::control) async fn release_all(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
    ) -> Result<(), AgentError> {
        // Without one of its user's it is called by its id.
        let name = Some(record.name.as_str()).filter(|name| *name != path.id.to_string());
        for ip in record.addresses() {
            self.let_go(path.net, ip, &owner(path), None, name).await?;
        }
        Ok(())
    }

    /// Releases an address, which then cools down. `false` when it was not held.
    pub(super) async fn let_go(
        &self,
        net: Vni,
        ip: IpAddr,
        owner: &Owner,
        nonce: Option<Nonce>,
        name: Option<&str>,
    ) -> Result<bool, AgentError> {
        let released = self.ipam.release(net, ip, owner, nonce, name).await;
        let cooling = not_ours(released)?.flatten();
        let was_held = cooling.is_some();
        if let Some(cooling) = cooling {
            self.released.add(cooling, name);
        }
        Ok(was_held)
    }
}

/// What was not ours to release any more is released: an earlier attempt has done it, although its
/// answer was lost.
pub(super) fn not_ours<T>(result: Result<T, IpamError>) -> Result<Option<T>, AgentError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(IpamError::NotOurs { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn owner(path: &EndpointPath) -> Owner {
    Owner {
        node: path.node,
        endpoint: path.id.clone(),
    }
}

/// The addresses that were asked for, and any one of each other family that the network has. Of a
/// host without an agent it is known what it has.
pub(super) fn wants(
    network: &NetworkRecord,
    request: &EndpointRequest,
) -> Result<Vec<Want>, AgentError> {
    let of = |family| {
        let mut ips = request
            .ips
            .iter()
            .filter(move |ip| Family::of(**ip) == family);
        (ips.next().copied(), ips.next().copied())
    };
    let mut wants = Vec::new();
    for family in [Family::V4, Family::V6] {
        let subnets = network.subnets.iter();
        let has = subnets
            .map(|subnet| Family::of(subnet.addr()))
            .any(|f| f == family);
        match of(family) {
            (Some(first), Some(second)) => return Err(AgentError::TwoOfAFamily(first, second)),
            (Some(ip), None) => wants.push(Want::Address(ip)),
            (None, _) if has && matches!(request.at, At::Netns { .. }) => {
                wants.push(Want::Any(family));
            }
            (None, _) => {}
        }
    }
    Ok(wants)
}

/// The record of an endpoint with these addresses, of which there is at least one.
pub(super) fn record(name: String, leases: &[Lease], mac: Option<MacAddr>) -> EndpointRecord {
    let (mut ip4, mut ip6) = (None, None);
    for lease in leases {
        match lease.ip {
            IpAddr::V4(ip) => ip4 = Some(ip),
            IpAddr::V6(ip) => ip6 = Some(ip),
        }
    }
    let derived = ip4.map(mac_for).or(ip6.map(mac_for_v6));
    EndpointRecord {
        ip4,
        ip6,
        mac: mac.or(derived).unwrap_or_default(),
        name,
        container: None,
        aliases: Vec::new(),
        allow_ips: Vec::new(),
        forwarding: false,
        extra: Extra::new(),
    }
}

/// Name of a node, or its id when the store does not know it.
fn node_name(view: &View, id: NodeId) -> String {
    view.nodes
        .get(&id)
        .map_or_else(|| id.to_string(), |node| node.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_from_address() {
        let mac = mac_for(Ipv4Addr::new(10, 0, 255, 3));
        assert_eq!(mac.to_string(), "02:42:0a:00:ff:03");
        assert!(!mac.is_multicast());
    }

    #[test]
    fn mac_from_an_ipv6_address() {
        let mac = |text: &str| mac_for_v6(text.parse().unwrap());
        // printf 'fd000000000000000000000000000002' | xxd -r -p | sha256sum
        assert_eq!(mac("fd00::2").0[0], 0x06);
        assert_ne!(mac("fd00::2"), mac("fd00:0:0:1::2"));
        assert_eq!(mac("fd00::2"), mac("fd00::2"));
    }

    fn network(subnets: &[&str]) -> NetworkRecord {
        let json = serde_json::json!({"vni": 1, "subnets": subnets});
        serde_json::from_value(json).unwrap()
    }

    fn request(ips: &[&str], at: At) -> EndpointRequest {
        EndpointRequest {
            network: "blue".into(),
            name: None,
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            mac: None,
            allow_ips: Vec::new(),
            forwarding: false,
            container: None,
            at,
        }
    }

    #[test]
    fn one_address_of_each_family() {
        let here = || At::Netns {
            path: "/a".into(),
            ifname: "eth0".into(),
        };
        let both = network(&["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"]);
        let any = Want::Any;
        let (v4, v6) = (Family::V4, Family::V6);
        let exact = |ip: &str| Want::Address(ip.parse().unwrap());
        assert_eq!(
            wants(&both, &request(&[], here())).unwrap(),
            [any(v4), any(v6)]
        );
        assert_eq!(
            wants(&both, &request(&["fd00::7"], here())).unwrap(),
            [any(v4), exact("fd00::7")]
        );
        let only6 = network(&["fd00::/64"]);
        assert_eq!(wants(&only6, &request(&[], here())).unwrap(), [any(v6)]);
        // Refused later, by the pool.
        let given = wants(&only6, &request(&["10.0.0.7"], here())).unwrap();
        assert_eq!(given, [exact("10.0.0.7"), any(v6)]);
        let there = request(&["10.0.0.7"], At::Node("switch".into()));
        assert_eq!(wants(&both, &there).unwrap(), [exact("10.0.0.7")]);
        let twice = request(&["10.0.0.7", "10.0.1.7"], here());
        assert!(matches!(
            wants(&both, &twice),
            Err(AgentError::TwoOfAFamily(..))
        ));
    }
}
