//! The overlay's operations on the store: each applied whole or not at all.
//!
//! Every write follows one scheme: read what it depends on, check, write in one transaction that
//! fails if any of that moved; on a conflict, or when nobody knows whether the write was applied,
//! read again and start over.

mod endpoints;
mod error;
mod networks;
mod nodes;
mod reserve;
mod survey;

use std::collections::HashMap;

pub use endpoints::EndpointFilter;
pub use error::RegistryError;
pub use networks::NewNetwork;
pub use reserve::Reservation;
pub use survey::{Address, Survey};

use super::backoff::Attempts;
use super::client::{Client, KvPair, TxnOp};
use super::error::StoreError;
use super::schema::{self, Keys, Schema};

/// Typed operations on one store. Clones share the client.
#[derive(Clone, Debug)]
pub struct Registry {
    client: Client,
    keys: Keys,
}

impl Registry {
    pub fn new(client: Client, keys: Keys) -> Self {
        Self { client, keys }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Prepares the store: the folders' own keys, then the sentinel. Writes nothing that is there.
    ///
    /// # Errors
    /// When the store's layout is a later version's.
    pub async fn init(&self) -> Result<(), RegistryError> {
        let mut attempts = Attempts::new();
        loop {
            match self.try_init().await {
                Err(RegistryError::Store(error)) => attempts.after(error).await?,
                result => return result,
            }
        }
    }

    /// Refuses a store whose layout is a later version's. `false` for one without any.
    pub async fn check_layout(&self) -> Result<bool, RegistryError> {
        let Some(pair) = self.client.get(&self.keys.schema()).await?.value else {
            return Ok(false);
        };
        let found: Schema = schema::decode(&pair)?;
        if !found.is_newer() {
            return Ok(true);
        }
        Err(RegistryError::SchemaVersion {
            key: pair.key,
            found: found.version,
            known: Schema::CURRENT.version,
        })
    }

    async fn try_init(&self) -> Result<(), RegistryError> {
        let keys = &self.keys;
        let prepared = self.check_layout().await?;
        for folder in [keys.networks(), keys.nodes(), keys.endpoints()] {
            if self.client.get(&folder).await?.value.is_none() {
                // `false`: somebody else was faster.
                self.client.cas(&folder, Vec::new(), 0).await?;
            }
        }
        if !prepared {
            let value = schema::encode(&Schema::CURRENT);
            self.client.cas(&keys.schema(), value, 0).await?;
        }
        Ok(())
    }

    /// Reads several keys in one transaction, so that they belong together. Keys that do not
    /// exist are missing in the result, as are those that the token may not read.
    async fn read_together(&self, action: &str, keys: &[String]) -> Result<Pairs, StoreError> {
        // `get` would fail the transaction for a missing key; a tree may be empty.
        let ops: Vec<_> = keys
            .iter()
            .map(|key| TxnOp::get_tree(key.as_str()))
            .collect();
        let pairs = self.client.txn(action, &ops).await?;
        let wanted = pairs.into_iter().filter(|pair| keys.contains(&pair.key));
        Ok(Pairs(wanted.map(|pair| (pair.key.clone(), pair)).collect()))
    }
}

/// Keys of one moment.
struct Pairs(HashMap<String, KvPair>);

impl Pairs {
    fn get(&self, key: &str) -> Option<&KvPair> {
        self.0.get(key)
    }

    /// What a compare-and-set has to name: 0 for a key that does not exist.
    fn index(&self, key: &str) -> u64 {
        self.get(key).map_or(0, |pair| pair.modify_index)
    }
}
