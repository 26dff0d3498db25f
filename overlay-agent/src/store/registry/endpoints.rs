//! Publishing and withdrawing endpoints, with the index that wakes the other hosts.

use overlay_common::net::Vni;

use super::{Pairs, Registry, RegistryError};
use crate::store::backoff::Attempts;
use crate::store::client::TxnOp;
use crate::store::error::StoreError;
use crate::store::schema::{
    self, AddressRecord, Endpoint, EndpointPath, EndpointRecord, Hint, Keys, Listing, NodeId,
    Owner, Revision, bucket, encode, keep_extra, rules,
};

/// Which endpoints to list; without a field, all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointFilter {
    pub node: Option<NodeId>,
    pub net: Option<Vni>,
}

impl EndpointFilter {
    /// The smallest folder that has them all.
    fn folder(&self, keys: &Keys) -> String {
        match (self.node, self.net) {
            (Some(node), Some(net)) => keys.endpoints_on(node, net),
            (Some(node), None) => keys.endpoints_of(node),
            (None, Some(_) | None) => keys.endpoints(),
        }
    }
}

impl Registry {
    pub async fn endpoints(&self, filter: EndpointFilter) -> Result<Listing<Endpoint>, StoreError> {
        let pairs = self.client.list(&filter.folder(&self.keys)).await?.value;
        let mut listing = schema::endpoints(&self.keys, &pairs);
        listing
            .items
            .retain(|endpoint| filter.net.is_none_or(|net| endpoint.path.net == net));
        Ok(listing)
    }

    /// Where endpoints are. Keys that are none's are left out.
    pub async fn endpoint_paths(
        &self,
        filter: EndpointFilter,
    ) -> Result<Vec<EndpointPath>, StoreError> {
        let keys = self.client.keys(&filter.folder(&self.keys)).await?.value;
        let paths = keys
            .iter()
            .filter_map(|key| self.keys.parse_endpoint(key).ok());
        Ok(paths
            .filter(|path| filter.net.is_none_or(|net| path.net == net))
            .collect())
    }

    /// Publishes an endpoint. Doing so again with the same record changes nothing.
    ///
    /// # Errors
    /// When the network or the node does not exist, one of the addresses is not held for this
    /// endpoint, or the endpoint exists with another record.
    pub async fn publish_endpoint(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
    ) -> Result<(), RegistryError> {
        rules::check_endpoint(path.net, record)?;
        let mut attempts = Attempts::new();
        loop {
            match self.try_publish(path, record).await {
                Err(RegistryError::Store(error)) => attempts.after(error).await?,
                result => return result,
            }
        }
    }

    async fn try_publish(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
    ) -> Result<(), RegistryError> {
        let keys = &self.keys;
        let action = format!("publish the endpoint {}", path.id);
        let (vni, own) = (keys.vni(path.net), keys.endpoint(path));
        let revision = keys.revision(path.net, path.node);
        let node = keys.node(path.node);
        let mut wanted = vec![vni.clone(), node.clone(), own.clone(), revision.clone()];
        let claims = record.addresses().map(|ip| keys.address(path.net, ip));
        wanted.extend(claims);
        let found = self.read_together(&action, &wanted).await?;

        let Some(network) = found.get(&vni) else {
            return Err(RegistryError::NoSuchVni(path.net));
        };
        if found.get(&node).is_none() {
            return Err(RegistryError::NoSuchNode(path.node.to_string()));
        }
        if let Some(pair) = found.get(&own) {
            return match schema::decode::<EndpointRecord>(pair) {
                Ok(published) if published == *record => Ok(()),
                Ok(_) | Err(_) => Err(RegistryError::EndpointExists(path.clone())),
            };
        }
        // `get` fails when the node is gone; its record may change as it likes.
        let mut ops = vec![
            TxnOp::check_index(&vni, network.modify_index),
            TxnOp::get(&node),
        ];
        let owner = Owner {
            node: path.node,
            endpoint: path.id.clone(),
        };
        for ip in record.addresses() {
            let key = keys.address(path.net, ip);
            let held = found
                .get(&key)
                .filter(|pair| {
                    schema::decode(pair).is_ok_and(|claim: AddressRecord| claim.is_held_by(&owner))
                })
                .ok_or_else(|| RegistryError::AddressNotHeld {
                    ip,
                    path: path.clone(),
                })?;
            ops.push(TxnOp::check_index(key, held.modify_index));
        }
        let before = revision_of(&found, &revision)?;
        ops.push(TxnOp::cas(&own, &encode(record), 0));
        ops.extend(self.announce(path, &found, before, before.endpoints + 1));
        self.client.txn(&action, &ops).await?;
        Ok(())
    }

    /// Changes what is said of an endpoint besides its addresses. `false` when it is not published.
    ///
    /// # Errors
    /// When the addresses are others.
    pub async fn describe_endpoint(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
    ) -> Result<bool, RegistryError> {
        rules::check_endpoint(path.net, record)?;
        let mut attempts = Attempts::new();
        loop {
            match self.try_describe(path, record).await {
                Err(RegistryError::Store(error)) => attempts.after(error).await?,
                result => return result,
            }
        }
    }

    async fn try_describe(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
    ) -> Result<bool, RegistryError> {
        let keys = &self.keys;
        let action = format!("describe the endpoint {}", path.id);
        let (own, revision) = (keys.endpoint(path), keys.revision(path.net, path.node));
        let found = self
            .read_together(&action, &[own.clone(), revision.clone()])
            .await?;
        let Some(pair) = found.get(&own) else {
            return Ok(false);
        };
        let published: EndpointRecord = schema::decode(pair)?;
        let mut record = record.clone();
        keep_extra(&mut record.extra, &published.extra);
        if published == record {
            return Ok(true);
        }
        if (published.ip4, published.ip6) != (record.ip4, record.ip6) {
            return Err(RegistryError::EndpointExists(path.clone()));
        }
        let before = revision_of(&found, &revision)?;
        let mut ops = vec![TxnOp::cas(&own, &encode(&record), pair.modify_index)];
        ops.extend(self.announce(path, &found, before, before.endpoints));
        self.client.txn(&action, &ops).await?;
        Ok(true)
    }

    /// Withdraws an endpoint; its addresses stay held. `false` when it was not published.
    pub async fn withdraw_endpoint(&self, path: &EndpointPath) -> Result<bool, RegistryError> {
        let mut attempts = Attempts::new();
        let mut unknown = false;
        loop {
            match self.try_withdraw(path).await {
                Ok(withdrawn) => return Ok(withdrawn || unknown),
                Err(RegistryError::Store(error)) => {
                    unknown |= error.is_unknown_outcome();
                    attempts.after(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_withdraw(&self, path: &EndpointPath) -> Result<bool, RegistryError> {
        let keys = &self.keys;
        let action = format!("withdraw the endpoint {}", path.id);
        let (vni, own) = (keys.vni(path.net), keys.endpoint(path));
        let revision = keys.revision(path.net, path.node);
        let wanted = [vni.clone(), own.clone(), revision.clone()];
        let found = self.read_together(&action, &wanted).await?;
        let Some(pair) = found.get(&own) else {
            return Ok(false);
        };
        let mut ops = vec![TxnOp::delete_cas(&own, pair.modify_index)];
        match found.get(&vni) {
            Some(network) => {
                let before = revision_of(&found, &revision)?;
                ops.push(TxnOp::check_index(&vni, network.modify_index));
                let left = before.endpoints.saturating_sub(1);
                ops.extend(self.announce(path, &found, before, left));
            }
            // Somebody deleted the network by hand: nobody watches it, and its index must not
            // come back.
            None => ops.push(TxnOp::check_not_exists(&vni)),
        }
        self.client.txn(&action, &ops).await?;
        Ok(true)
    }

    /// The operations that count a change and wake those who watch the network.
    fn announce(
        &self,
        path: &EndpointPath,
        found: &Pairs,
        before: Revision,
        endpoints: u64,
    ) -> [TxnOp; 2] {
        let key = self.keys.revision(path.net, path.node);
        let after = Revision {
            rev: before.rev + 1,
            endpoints,
        };
        let hint = Hint {
            node: path.node,
            endpoint: path.id.clone(),
            rev: after.rev,
        };
        let index = found.index(&key);
        let value = after.encode_over(found.get(&key).map(|pair| &*pair.value));
        [
            TxnOp::cas(key, &value, index),
            TxnOp::set(self.keys.hint(path.net, bucket(path.node)), &hint.encode()),
        ]
    }
}

fn revision_of(found: &Pairs, key: &str) -> Result<Revision, RegistryError> {
    Ok(match found.get(key) {
        Some(pair) => schema::decode(pair)?,
        None => Revision::default(),
    })
}
