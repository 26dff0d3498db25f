//! What has to be readable before anything counts as deleted.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::store::client::{Client, TxnOp};
use crate::store::error::StoreError;
use crate::store::schema::{self, EndpointPath, Keys, NodeId, Schema};

/// This host's own part of the store. A token that lost its rights, an emptied store and one set
/// back to an old backup all look like deletions; but they do not show what this host has written.
#[derive(Debug, Default)]
pub struct Witness {
    own: Mutex<Own>,
    node_lost: Notify,
}

#[derive(Clone, Debug, Default)]
struct Own {
    node: Option<NodeId>,
    endpoints: BTreeSet<EndpointPath>,
}

impl Witness {
    /// The node's record was written.
    pub fn registered(&self, node: NodeId) {
        self.own().node = Some(node);
    }

    /// An endpoint of this host is in the store.
    pub fn published(&self, path: EndpointPath) {
        self.own().endpoints.insert(path);
    }

    /// An endpoint of this host is about to be taken out of the store.
    pub fn withdrawn(&self, path: &EndpointPath) {
        self.own().endpoints.remove(path);
    }

    /// Returns when the node's record was missed in a store that has the sentinel.
    pub async fn node_lost(&self) {
        self.node_lost.notified().await;
    }

    /// Reads the sentinel and what is this host's own, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] when one of them is missing. Of the endpoints one is enough: an
    /// administrator may have deleted the others. [`StoreError::Layout`] when the store is a later version's.
    pub(super) async fn check(
        &self,
        client: &Client,
        keys: &Keys,
        prefix: &str,
    ) -> Result<(), StoreError> {
        let own = self.own().clone();
        let node = own.node.map(|node| keys.node(node));
        let folder = own
            .endpoints
            .first()
            .map(|path| keys.endpoints_of(path.node));
        let sentinel = keys.schema();
        // `get` would fail the transaction for a missing key; a tree may be empty.
        let wanted = std::iter::once(&sentinel).chain(&node).chain(&folder);
        let ops: Vec<_> = wanted.map(|key| TxnOp::get_tree(key.as_str())).collect();
        let found = client.txn("read what is this host's own", &ops).await?;
        let layout = found.iter().find(|pair| pair.key == sentinel);
        // One that cannot be read is there all the same.
        let layout = layout.and_then(|pair| schema::decode::<Schema>(pair).ok());
        if let Some(layout) = layout.filter(Schema::is_newer) {
            let error = StoreError::Layout {
                key: sentinel,
                found: layout.version,
                known: Schema::CURRENT.version,
            };
            client.health().failure(&error);
            return Err(error);
        }
        let found: BTreeSet<_> = found.into_iter().map(|pair| pair.key).collect();

        let missing = if !found.contains(&sentinel) {
            sentinel
        } else if let Some(node) = node.filter(|node| !found.contains(node)) {
            self.node_lost.notify_one();
            node
        } else if let Some(folder) = folder.filter(|_| {
            let mut endpoints = own.endpoints.iter();
            !endpoints.any(|path| found.contains(&keys.endpoint(path)))
        }) {
            folder
        } else {
            return Ok(());
        };
        let error = StoreError::Incomplete {
            prefix: prefix.to_owned(),
            missing,
        };
        client.health().failure(&error);
        Err(error)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        // Each update leaves it whole, so a panic elsewhere does not spoil it.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
