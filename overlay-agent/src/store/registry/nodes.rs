//! Nodes: those with an agent hold a lock on their record, the others were added by hand.

use std::net::IpAddr;

use super::{Registry, RegistryError};
use crate::store::backoff::Attempts;
use crate::store::client::{KvPair, MAX_TXN_OPS, SessionId, TxnOp};
use crate::store::error::StoreError;
use crate::store::schema::{
    self, AddressRecord, Extra, Listing, Node, NodeId, NodeRecord, encode, keep_extra, rules,
};

impl Registry {
    pub async fn nodes(&self) -> Result<Listing<Node>, StoreError> {
        let pairs = self.client.list(&self.keys.nodes()).await?.value;
        Ok(schema::nodes(&self.keys, &pairs))
    }

    /// One node by its id; `None` also when its record is corrupt.
    pub async fn node(&self, id: NodeId) -> Result<Option<Node>, StoreError> {
        let pair = self.client.get(&self.keys.node(id)).await?.value;
        let pairs: Vec<_> = pair.into_iter().collect();
        Ok(schema::nodes(&self.keys, &pairs).items.pop())
    }

    /// Writes this host's record and takes, or keeps, its lock. Idempotent; to be called for each
    /// new session and each change of the record. What a later version has written beside the fields that are
    /// known here stays.
    ///
    /// # Errors
    /// When another session holds the lock, or `session` ended.
    pub async fn register_node(
        &self,
        id: NodeId,
        record: &NodeRecord,
        session: &SessionId,
    ) -> Result<(), RegistryError> {
        rules::check_node(record)?;
        let mut attempts = Attempts::new();
        loop {
            match self.try_register(id, record, session).await {
                Err(RegistryError::Store(error)) => attempts.after(error).await?,
                result => return result,
            }
        }
    }

    async fn try_register(
        &self,
        id: NodeId,
        record: &NodeRecord,
        session: &SessionId,
    ) -> Result<(), RegistryError> {
        let key = self.keys.node(id);
        let action = format!("register the node `{}`", record.name);
        let before = self.client.get(&key).await?.value;
        let mut record = record.clone();
        // A record that cannot be read has nothing to keep.
        if let Some(Ok(before)) = before.as_ref().map(schema::decode::<NodeRecord>) {
            keep_extra(&mut record.extra, &before.extra);
        }
        let condition = match &before {
            Some(pair) => TxnOp::check_index(&key, pair.modify_index),
            None => TxnOp::check_not_exists(&key),
        };
        // A plain write to a locked key succeeds; only taking the lock is refused to others.
        let lock = TxnOp::lock(&key, &encode(&record), session.clone());
        let Err(error) = self.client.txn(&action, &[condition, lock]).await else {
            return Ok(());
        };
        if !error.is_conflict() {
            return Err(error.into());
        }
        let now = self.client.get(&key).await?.value;
        let index = |pair: &Option<KvPair>| pair.as_ref().map(|pair| pair.modify_index);
        match now.as_ref().and_then(|pair| pair.session.clone()) {
            Some(by) if by != *session => Err(RegistryError::NodeLocked { id, by }),
            // Somebody has changed the record meanwhile.
            _ if index(&now) != index(&before) => Err(error.into()),
            Some(_) | None => Err(RegistryError::SessionLost(session.clone())),
        }
    }

    /// Adds a node that has no agent, e.g. a hardware VTEP.
    ///
    /// # Errors
    /// When the name or the address is another node's.
    pub async fn add_node(
        &self,
        name: &str,
        vtep: IpAddr,
        port: u16,
    ) -> Result<Node, RegistryError> {
        let record = NodeRecord {
            name: name.to_owned(),
            vteps: vec![vtep],
            port,
            version: String::new(),
            schema: 0,
            agent: false,
            stopped: None,
            extra: Extra::new(),
        };
        rules::check_node(&record)?;
        let id = NodeId::of_name(name);
        let mut attempts = Attempts::new();
        let mut unknown = false;
        loop {
            match self.try_add(id, &record, unknown).await {
                Ok(()) => {
                    return Ok(Node {
                        id,
                        record,
                        session: None,
                    });
                }
                Err(RegistryError::Store(error)) => {
                    unknown |= error.is_unknown_outcome();
                    attempts.after(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_add(
        &self,
        id: NodeId,
        record: &NodeRecord,
        unknown: bool,
    ) -> Result<(), RegistryError> {
        for node in self.nodes().await?.items {
            if unknown && node.id == id && node.record == *record {
                return Ok(());
            }
            let by = node.record.name;
            if by == record.name {
                return Err(RegistryError::NodeExists {
                    name: by,
                    id: node.id,
                });
            }
            let shared = node
                .record
                .vteps
                .iter()
                .find(|ip| record.vteps.contains(ip));
            if let Some(vtep) = shared {
                return Err(RegistryError::VtepTaken { vtep: *vtep, by });
            }
        }
        let key = self.keys.node(id);
        if self.client.cas(&key, encode(record), 0).await? {
            return Ok(());
        }
        let pair = self.client.get(&key).await?.value;
        let ours = |pair| schema::decode(pair).is_ok_and(|found: NodeRecord| found == *record);
        if unknown && pair.as_ref().is_some_and(ours) {
            return Ok(());
        }
        Err(RegistryError::NodeExists {
            name: record.name.clone(),
            id,
        })
    }

    /// Finds a node by id or name.
    ///
    /// # Errors
    /// When there is none, or several have the name.
    pub async fn find_node(&self, name_or_id: &str) -> Result<Node, RegistryError> {
        let mut nodes = self.nodes().await?.items;
        if let Ok(id) = name_or_id.parse::<NodeId>()
            && let Some(at) = nodes.iter().position(|node| node.id == id)
        {
            return Ok(nodes.swap_remove(at));
        }
        nodes.retain(|node| node.record.name == name_or_id);
        match nodes.len() {
            0 | 1 => nodes
                .pop()
                .ok_or_else(|| RegistryError::NoSuchNode(name_or_id.to_owned())),
            _ => Err(RegistryError::AmbiguousNode {
                name: name_or_id.to_owned(),
                ids: nodes.iter().map(|node| node.id).collect(),
            }),
        }
    }

    /// Forgets a node: withdraws its endpoints, frees its addresses, deletes its record. Can be
    /// repeated after a failure half-way.
    ///
    /// # Errors
    /// When its agent holds a live session.
    pub async fn remove_node(&self, name_or_id: &str) -> Result<Node, RegistryError> {
        let node = self.find_node(name_or_id).await?;
        let alive = || RegistryError::NodeAlive {
            name: node.record.name.clone(),
            id: node.id,
        };
        if node.session.is_some() {
            return Err(alive());
        }
        self.clear_node(node.id).await?;
        let mut attempts = Attempts::new();
        loop {
            let found = self.client.get(&self.keys.node(node.id)).await?.value;
            let Some(pair) = found else {
                break;
            };
            if pair.session.is_some() {
                return Err(alive());
            }
            let action = format!("remove the node `{}`", node.record.name);
            let delete = TxnOp::delete_cas(&pair.key, pair.modify_index);
            match self.client.txn(&action, &[delete]).await {
                Ok(_) => break,
                Err(error) => attempts.after(error).await?,
            }
        }
        // What was published in between; without the node's record nothing more can be.
        self.clear_node(node.id).await?;
        Ok(node)
    }

    /// Withdraws a node's endpoints, by key so that corrupt records go as well, and frees its
    /// addresses.
    async fn clear_node(&self, id: NodeId) -> Result<(), RegistryError> {
        for key in self.client.keys(&self.keys.endpoints_of(id)).await?.value {
            if let Ok(path) = self.keys.parse_endpoint(&key) {
                self.withdraw_endpoint(&path).await?;
            }
        }
        // After the endpoints: an address that is free again must not be published still.
        self.free_addresses(id).await
    }

    async fn free_addresses(&self, node: NodeId) -> Result<(), RegistryError> {
        let mut attempts = Attempts::new();
        loop {
            let pairs = self.client.list(&self.keys.addresses()).await?.value;
            let of_node = pairs.iter().filter(|pair| {
                schema::decode(pair).is_ok_and(|record: AddressRecord| record.node == node)
            });
            let ops: Vec<_> = of_node
                .map(|pair| TxnOp::delete_cas(&pair.key, pair.modify_index))
                .collect();
            let action = format!("free the addresses of the node {node}");
            let mut failed = None;
            for batch in ops.chunks(MAX_TXN_OPS) {
                if let Err(error) = self.client.txn(&action, batch).await {
                    failed = Some(error);
                    break;
                }
            }
            match failed {
                None => return Ok(()),
                Some(error) => attempts.after(error).await?,
            }
        }
    }
}
