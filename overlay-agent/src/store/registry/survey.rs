//! Everything that says who has which address, as of one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use overlay_common::net::Vni;

use super::Registry;
use crate::store::client::{KvPair, TxnOp};
use crate::store::error::StoreError;
use crate::store::schema::{
    self, AddressRecord, BUCKETS, EndpointPath, EndpointRecord, Keys, NetworkRecord, NodeId,
    NodeRecord, Revision,
};

/// What was read.
#[derive(Debug, Default)]
pub struct Survey {
    pub networks: BTreeMap<Vni, (String, NetworkRecord)>,
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    pub endpoints: BTreeMap<EndpointPath, EndpointRecord>,
    /// Of the endpoints, also of those whose records cannot be read.
    pub paths: BTreeSet<EndpointPath>,
    pub addresses: Vec<Address>,
    counts: BTreeMap<(NodeId, Vni), u64>,
}

/// A key of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub net: Vni,
    pub ip: IpAddr,
    /// `None` when it cannot be read.
    pub record: Option<AddressRecord>,
    pub index: u64,
}

/// Positions in the transaction.
const OP_SCHEMA: usize = 0;
const OP_NODE: usize = 1;

impl Registry {
    /// Reads who has which address of a network, or of all, in one request.
    ///
    /// # Errors
    /// Also when keys are missing that have to be there, such as the record of the node `own`: then others may be, too.
    pub async fn survey(&self, net: Option<Vni>, own: NodeId) -> Result<Survey, StoreError> {
        let keys = &self.keys;
        let (addresses, index) = match net {
            Some(net) => (keys.addresses_of(net), keys.index_of(net)),
            None => (keys.addresses(), keys.indexes()),
        };
        let ops = [
            TxnOp::get(keys.schema()),
            TxnOp::get(keys.node(own)),
            TxnOp::get_tree(keys.networks()),
            TxnOp::get_tree(keys.nodes()),
            TxnOp::get_tree(keys.endpoints()),
            TxnOp::get_tree(&addresses),
            TxnOp::get_tree(&index),
        ];
        let incomplete = |missing: String| StoreError::Incomplete {
            prefix: addresses.clone(),
            missing,
        };
        let read = self.client.txn("read who has which address", &ops).await;
        let pairs = match read {
            Err(error) if error.op_failed(OP_SCHEMA) => return Err(incomplete(keys.schema())),
            Err(error) if error.op_failed(OP_NODE) => return Err(incomplete(keys.node(own))),
            read => read?,
        };
        let survey = Survey::of(keys, &pairs);
        let there: BTreeSet<_> = pairs.iter().map(|pair| pair.key.as_str()).collect();
        let all = survey.networks.keys().copied();
        for net in all.filter(|vni| net.is_none_or(|net| net == *vni)) {
            let hints = (0..BUCKETS).map(|bucket| keys.hint(net, bucket));
            if let Some(missing) = hints.into_iter().find(|key| !there.contains(key.as_str())) {
                return Err(incomplete(missing));
            }
        }
        Ok(survey)
    }

    /// Deletes the records of addresses that nobody uses, unless they, or an endpoint that may use them, have come
    /// to be something else. Returns those that were deleted.
    ///
    /// # Errors
    /// Some may have been deleted.
    pub async fn reclaim(&self, unused: &[Address]) -> Result<Vec<Address>, StoreError> {
        let mut freed = Vec::new();
        for batch in unused.chunks(schema::rules::MAX_TOGETHER) {
            match self.try_reclaim(batch).await {
                Ok(()) => freed.extend_from_slice(batch),
                Err(error) if error.is_conflict() => {
                    for one in batch {
                        match self.try_reclaim(std::slice::from_ref(one)).await {
                            Ok(()) => freed.push(one.clone()),
                            Err(error) if error.is_conflict() => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(freed)
    }

    async fn try_reclaim(&self, batch: &[Address]) -> Result<(), StoreError> {
        let ops = batch.iter().flat_map(|one| {
            let endpoint = one.holder().map(|path| self.keys.endpoint(&path));
            let delete = TxnOp::delete_cas(self.keys.address(one.net, one.ip), one.index);
            let absent = endpoint.map(TxnOp::check_not_exists);
            absent.into_iter().chain([delete])
        });
        let ops: Vec<_> = ops.collect();
        self.client.txn("free addresses", &ops).await.map(drop)
    }
}

impl Address {
    /// Where the endpoint is that holds it, if there is one.
    pub fn holder(&self) -> Option<EndpointPath> {
        let record = self.record.as_ref()?;
        Some(EndpointPath {
            node: record.node,
            net: self.net,
            id: record.endpoint.parse().ok()?,
        })
    }
}

impl Survey {
    /// What keys and values say.
    pub(crate) fn of(keys: &Keys, pairs: &[KvPair]) -> Self {
        let below = |folder: String| {
            let of = pairs
                .iter()
                .filter(move |pair| pair.key.starts_with(&folder));
            of.cloned().collect::<Vec<_>>()
        };
        let networks = schema::networks(keys, &below(keys.networks())).items;
        let nodes = schema::nodes(keys, &below(keys.nodes())).items;
        let endpoints = schema::endpoints(keys, &below(keys.endpoints())).items;
        let mut survey = Self {
            networks: networks
                .into_iter()
                .map(|network| (network.record.vni, (network.name, network.record)))
                .collect(),
            nodes: nodes
                .into_iter()
                .map(|node| (node.id, node.record))
                .collect(),
            endpoints: endpoints
                .into_iter()
                .map(|endpoint| (endpoint.path, endpoint.record))
                .collect(),
            ..Self::default()
        };
        for pair in pairs {
            if let Ok(path) = keys.parse_endpoint(&pair.key) {
                survey.paths.insert(path);
            } else if let Ok((net, ip)) = keys.parse_address(&pair.key) {
                survey.addresses.push(Address {
                    net,
                    ip,
                    record: schema::decode(pair).ok(),
                    index: pair.modify_index,
                });
            } else if let Some((net, node)) = keys.parse_any_revision(&pair.key) {
                // One that cannot be read fits no number of endpoints.
                let count = schema::decode(pair).map_or(u64::MAX, |rev: Revision| rev.endpoints);
                survey.counts.insert((node, net), count);
            }
        }
        survey
    }

    /// Whether all endpoints of a node on a network were read: as many as it has counted.
    pub fn has_all_of(&self, node: NodeId, net: Vni) -> bool {
        let from = self.paths.range(EndpointPath::before(node, net)..);
        let found = from.take_while(|path| (path.node, path.net) == (node, net));
        let counted = self.counts.get(&(node, net)).copied().unwrap_or(0);
        found.count() as u64 == counted
    }
}
