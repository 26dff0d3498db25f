//! Making, removing and listing networks.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_common::net::Vni;

use super::{Registry, RegistryError, Reservation};
use crate::store::backoff::Attempts;
use crate::store::client::{KvPair, TxnOp};
use crate::store::error::StoreError;
use crate::store::schema::{
    self, AddressRecord, BUCKETS, Extra, FloodMode, Hint, Keys, Listing, Network, NetworkOptions,
    NetworkRecord, encode, rules, subnets,
};

/// What a user says of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNetwork {
    pub name: String,
    /// Without one, the lowest that is free.
    pub vni: Option<Vni>,
    /// Without one, the first /16 of 10.64.0.0/10 that overlaps no other network and nothing to `avoid`. Given ones may
    /// be another network's: networks are apart.
    pub subnets: Vec<IpNet>,
    /// Subnets without one get their first address.
    pub gateways: Vec<IpAddr>,
    pub mtu: Option<u16>,
    pub flood: FloodMode,
    /// Packets per second; see [`NetworkOptions::flood_rate`].
    pub flood_rate: Option<u32>,
    pub internal: bool,
    pub vlan: bool,
    /// Parts of subnets; see [`NetworkOptions::ranges`].
    pub ranges: Vec<IpNet>,
    /// Parts of subnets; see [`NetworkOptions::exclude`].
    pub exclude: Vec<IpNet>,
    /// What a subnet that is chosen must not overlap, besides other networks.
    pub avoid: Vec<IpNet>,
    /// Addresses that no endpoint may have.
    pub reserved: Vec<IpAddr>,
    /// What the VNI was reserved for, if it was.
    pub reservation: Option<Reservation>,
}

/// How many endpoints an error names.
const NAMED: usize = 8;

/// Positions in the transaction that makes a network.
const OP_VNI: usize = 0;
const OP_NAME: usize = 1;

impl NewNetwork {
    /// Whether it can be made with this VNI and the subnets that it names.
    pub fn check(&self, vni: Vni) -> Result<(), rules::RuleError> {
        rules::check_network(&self.record(vni, self.subnets.clone()))
    }

    fn record(&self, vni: Vni, subnets: Vec<IpNet>) -> NetworkRecord {
        let mut gateways = gateways(&subnets, &self.gateways);
        NetworkRecord {
            vni,
            subnets,
            gateway: (!gateways.is_empty()).then(|| gateways.remove(0)),
            mtu: self.mtu,
            flood: self.flood,
            options: NetworkOptions {
                internal: self.internal,
                vlan: self.vlan,
                flood_rate: self.flood_rate,
                gateways,
                ranges: self.ranges.clone(),
                exclude: self.exclude.clone(),
                docker: self.reservation.as_ref().map(|made| made.docker.clone()),
                extra: Extra::new(),
            },
            extra: Extra::new(),
        }
    }
}

impl Registry {
    /// Makes a network: its record, its VNI, its wake-up keys and its gateways' claims.
    ///
    /// # Errors
    /// When a value breaks a rule, or the name or the VNI is taken.
    pub async fn create_network(&self, new: &NewNetwork) -> Result<Network, RegistryError> {
        rules::check_name(&new.name)?;
        if !new.subnets.is_empty() {
            rules::check_subnets(&new.subnets)?;
        }
        let count = new.reserved.len();
        if count > rules::MAX_RESERVED {
            return Err(rules::RuleError::TooManyReserved { count }.into());
        }
        let mut attempts = Attempts::new();
        // What may have been written although the answer was lost.
        let mut unknown = Vec::new();
        loop {
            match self.try_create(new, &mut unknown).await {
                Err(RegistryError::Store(error)) => attempts.after(error).await?,
                result => return result,
            }
        }
    }

    async fn try_create(
        &self,
        new: &NewNetwork,
        unknown: &mut Vec<NetworkRecord>,
    ) -> Result<Network, RegistryError> {
        let name = &new.name;
        if let Some(pair) = self.client.get(&self.keys.network(name)).await?.value {
            return match schema::decode(&pair) {
                Ok(record) if unknown.contains(&record) || made_as(&record, new) => Ok(Network {
                    name: name.clone(),
                    record,
                }),
                Ok(_) => Err(RegistryError::NetworkExists(name.clone())),
                Err(bad) => Err(bad.into()),
            };
        }
        let (record, vni_index) = match &new.reservation {
            None => (self.complete(new, new.vni).await?, 0),
            Some(reservation) => {
                let (vni, index) = self.reserved_vni(reservation).await?;
                (self.complete(new, Some(vni)).await?, index)
            }
        };
        let action = format!("create the network `{name}`");
        let ops = creation(&self.keys, name, &record, vni_index, &new.reserved);
        let Err(error) = self.client.txn(&action, &ops).await else {
            return Ok(Network {
                name: name.clone(),
                record,
            });
        };
        if error.is_unknown_outcome() {
            unknown.push(record);
        }
        // A VNI of our own choice is chosen again.
        if error.op_failed(OP_VNI)
            && !error.op_failed(OP_NAME)
            && new.reservation.is_none()
            && let Some(vni) = new.vni
            && let Some(taken) = self.vni_taken(vni).await?
        {
            return Err(taken);
        }
        Err(error.into())
    }

    pub(super) async fn vni_taken(&self, vni: Vni) -> Result<Option<RegistryError>, RegistryError> {
        let pair = self.client.get(&self.keys.vni(vni)).await?.value;
        Ok(pair.map(|pair| RegistryError::VniTaken {
            vni,
            by: match Reservation::of(&pair) {
                Some(_) => "that Docker is making".to_owned(),
                None => schema::decode(&pair).map_or_else(
                    |bad| bad.to_string(),
                    |name: String| format!("`{}`", name.escape_debug()),
                ),
            },
        }))
    }

    /// Fills in what the user left open.
    async fn complete(
        &self,
        new: &NewNetwork,
        vni: Option<Vni>,
    ) -> Result<NetworkRecord, RegistryError> {
        let vni = match vni {
            Some(vni) => vni,
            None => self.free_vni().await?,
        };
        let mut own = new.subnets.clone();
        if own.is_empty() {
            let networks = self.networks().await?.items;
            let taken = networks.into_iter().flat_map(|n| n.record.subnets);
            let taken: Vec<_> = taken.chain(new.avoid.iter().copied()).collect();
            own.push(subnets::first_free(&taken).ok_or(RegistryError::NoSubnetLeft)?);
        }
        let record = new.record(vni, own);
        rules::check_network(&record)?;
        Ok(record)
    }

    pub(super) async fn free_vni(&self) -> Result<Vni, RegistryError> {
        let keys = self.client.keys(&self.keys.vnis()).await?.value;
        // In the order of the keys, which is that of the numbers.
        let taken = keys.iter().filter_map(|key| self.keys.parse_vni(key).ok());
        lowest_free(taken.map(Vni::get)).ok_or(RegistryError::NoVniLeft)
    }

    /// Removes a network and all that belongs to it.
    ///
    /// # Errors
    /// When it has endpoints. One that is published at the same moment either comes first, and is
    /// named, or finds the network gone.
    pub async fn delete_network(&self, name: &str) -> Result<(), RegistryError> {
        rules::check_name(name)?;
        let mut attempts = Attempts::new();
        let mut unknown = false;
        loop {
            match self.try_delete(name).await {
                Err(RegistryError::NoSuchNetwork(_)) if unknown => return Ok(()),
                Err(RegistryError::Store(error)) => {
                    unknown |= error.is_unknown_outcome();
                    attempts.after(error).await?;
                }
                result => return result,
            }
        }
    }

    async fn try_delete(&self, name: &str) -> Result<(), RegistryError> {
        let keys = &self.keys;
        let found = self.client.get(&keys.network(name)).await?.value;
        let pair = found.ok_or_else(|| RegistryError::NoSuchNetwork(name.to_owned()))?;
        let record: NetworkRecord = schema::decode(&pair)?;
        let net = record.vni;
        // The wake-up keys before the endpoints: whatever is published in between moves one.
        let buckets = self
            .client
            .list(&format!("{}b/", keys.index_of(net)))
            .await?
            .value;
        let vni = self.client.get(&keys.vni(net)).await?.value;
        self.refuse_in_use(name, net).await?;
        let ops = deletion(keys, &pair, net, vni.as_ref(), &buckets);
        let action = format!("remove the network `{name}`");
        self.client.txn(&action, &ops).await?;
        Ok(())
    }

    async fn refuse_in_use(&self, name: &str, net: Vni) -> Result<(), RegistryError> {
        let all = self.client.keys(&self.keys.endpoints()).await?.value;
        let on_net: Vec<_> = all
            .iter()
            .filter_map(|key| self.keys.parse_endpoint(key).ok())
            .filter(|path| path.net == net)
            .collect();
        if on_net.is_empty() {
            return Ok(());
        }
        let nodes = self.nodes().await?.items;
        let node_name = |id| {
            let node = nodes.iter().find(|node| node.id == id);
            node.map_or_else(|| id.to_string(), |node| node.record.name.clone())
        };
        let mut endpoints = Vec::new();
        for path in on_net.iter().take(NAMED) {
            let pair = self.client.get(&self.keys.endpoint(path)).await?.value;
            let record: Option<schema::EndpointRecord> =
                pair.and_then(|pair| schema::decode(&pair).ok());
            let label = record
                .map(|record| record.name)
                .filter(|name| !name.is_empty());
            let node = node_name(path.node);
            endpoints.push(match label {
                Some(label) => format!("{} ({}) on {node}", label.escape_debug(), path.id),
                None => format!("{} on {node}", path.id),
            });
        }
        Err(RegistryError::NetworkInUse {
            name: name.to_owned(),
            endpoints,
            count: on_net.len(),
        })
    }

    pub async fn networks(&self) -> Result<Listing<Network>, StoreError> {
        let pairs = self.client.list(&self.keys.networks()).await?.value;
        Ok(schema::networks(&self.keys, &pairs))
    }

    /// One network by name.
    ///
    /// # Errors
    /// When there is none, or its record is corrupt.
    pub async fn network(&self, name: &str) -> Result<Network, RegistryError> {
        rules::check_name(name)?;
        let found = self.client.get(&self.keys.network(name)).await?.value;
        let pair = found.ok_or_else(|| RegistryError::NoSuchNetwork(name.to_owned()))?;
        let mut listing = schema::networks(&self.keys, &[pair]);
        match (listing.items.pop(), listing.bad.pop()) {
            (Some(network), _) => Ok(network),
            (None, Some(bad)) => Err(bad.into()),
            (None, None) => Err(RegistryError::NoSuchNetwork(name.to_owned())),
        }
    }
}

/// Whether a record is of the Docker network that `new` is about.
fn made_as(record: &NetworkRecord, new: &NewNetwork) -> bool {
    let made = new.reservation.as_ref().map(|made| &made.docker);
    made.is_some() && made == record.options.docker.as_ref()
}

/// Those that were named, and the default ones of the subnets that have none of these.
fn gateways(all: &[IpNet], named: &[IpAddr]) -> Vec<IpAddr> {
    let open = all
        .iter()
        .filter(|subnet| !named.iter().any(|gateway| subnet.contains(gateway)));
    let defaults = open.map(subnets::default_gateway);
    named.iter().copied().chain(defaults).collect()
}

/// `vni_index` is that of the VNI's reservation, 0 without one.
fn creation(
    keys: &Keys,
    name: &str,
    record: &NetworkRecord,
    vni_index: u64,
    reserved: &[IpAddr],
) -> Vec<TxnOp> {
    let net = record.vni;
    // OP_VNI and OP_NAME.
    let mut ops = vec![
        TxnOp::cas(keys.vni(net), &encode(&name), vni_index),
        TxnOp::cas(keys.network(name), &encode(record), 0),
    ];
    ops.extend((0..BUCKETS).map(|b| TxnOp::set(keys.hint(net, b), Hint::NONE.as_bytes())));
    ops.extend(record.gateways().map(|gateway| {
        let claim = encode(&AddressRecord::gateway());
        TxnOp::set(keys.address(net, gateway), &claim)
    }));
    let kept = reserved
        .iter()
        .filter(|ip| !record.gateways().any(|gateway| gateway == **ip));
    ops.extend(kept.map(|ip| {
        let claim = encode(&AddressRecord::reserved());
        TxnOp::set(keys.address(net, *ip), &claim)
    }));
    ops
}

/// Deletes the network of `pair` on condition that nothing was published since `buckets` was read.
fn deletion(
    keys: &Keys,
    pair: &KvPair,
    net: Vni,
    vni: Option<&KvPair>,
    buckets: &[KvPair],
) -> Vec<TxnOp> {
    let mut ops = vec![TxnOp::delete_cas(&pair.key, pair.modify_index)];
    match vni {
        Some(vni) => ops.push(TxnOp::delete_cas(&vni.key, vni.modify_index)),
        None => ops.push(TxnOp::check_not_exists(keys.vni(net))),
    }
    for number in 0..BUCKETS {
        let key = keys.hint(net, number);
        ops.push(match buckets.iter().find(|bucket| bucket.key == key) {
            Some(bucket) => TxnOp::check_index(key, bucket.modify_index),
            None => TxnOp::check_not_exists(key),
        });
    }
    ops.push(TxnOp::delete_tree(keys.index_of(net)));
    ops.push(TxnOp::delete_tree(keys.addresses_of(net)));
    ops
}

/// `taken` in ascending order.
fn lowest_free(taken: impl Iterator<Item = u32>) -> Option<Vni> {
    let mut free = 1;
    for number in taken {
        if number > free {
            break;
        }
        free = number + 1;
    }
    Vni::new(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::client::MAX_TXN_OPS;

    #[test]
    fn lowest_free_vni() {
        let of = |taken: &[u32]| lowest_free(taken.iter().copied()).map(Vni::get);
        assert_eq!(of(&[]), Some(1));
        assert_eq!(of(&[1, 2, 4]), Some(3));
        assert_eq!(of(&[2]), Some(1));
        assert_eq!(lowest_free(1..=Vni::MAX), None);
    }

    #[test]
    fn transactions_fit_the_limit() {
        let keys = Keys::new("overlay/");
        let subnets: Vec<IpNet> = (0..rules::MAX_SUBNETS)
            .map(|n| format!("10.0.{n}.0/24").parse().unwrap())
            .collect();
        let gateways = gateways(&subnets, &[]);
        let json = serde_json::json!({
            "vni": 1, "subnets": subnets, "gateway": gateways[0],
            "options": {"gateways": gateways[1..]},
        });
        let record: NetworkRecord = serde_json::from_value(json).unwrap();
        rules::check_network(&record).unwrap();
        assert_eq!(record.gateways().count(), rules::MAX_SUBNETS);
        let reserved: Vec<IpAddr> = (0..rules::MAX_RESERVED)
            .map(|n| format!("10.0.0.{}", 2 + n).parse().unwrap())
            .collect();
        assert!(creation(&keys, "a", &record, 0, &reserved).len() <= MAX_TXN_OPS);
        let pair = KvPair {
            key: keys.network("a"),
            value: Vec::new(),
            create_index: 1,
            modify_index: 1,
            lock_index: 0,
            flags: 0,
            session: None,
        };
        let ops = deletion(&keys, &pair, record.vni, None, &[]);
        assert!(ops.len() <= MAX_TXN_OPS);
    }
}
