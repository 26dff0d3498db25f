//! What the allocator asks of the store, so that it runs against a model as well.

use std::future::Future;

use crate::store::client::TxnOp;
use crate::store::{Client, KvPair, StoreError};

/// One request each; see [`Client`].
pub trait AddressStore: Send + Sync {
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<KvPair>, StoreError>> + Send;

    fn keys(&self, prefix: &str) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;

    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<KvPair>, StoreError>> + Send;

    fn txn(
        &self,
        action: &str,
        ops: &[TxnOp],
    ) -> impl Future<Output = Result<Vec<KvPair>, StoreError>> + Send;
}

impl AddressStore for Client {
    async fn get(&self, key: &str) -> Result<Option<KvPair>, StoreError> {
        Ok(Self::get(self, key).await?.value)
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(Self::keys(self, prefix).await?.value)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<KvPair>, StoreError> {
        Ok(Self::list(self, prefix).await?.value)
    }

    async fn txn(&self, action: &str, ops: &[TxnOp]) -> Result<Vec<KvPair>, StoreError> {
        Self::txn(self, action, ops).await
    }
}
