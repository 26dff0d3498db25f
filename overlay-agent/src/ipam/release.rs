//! Letting addresses go, and handing them on.

use std::net::IpAddr;

use overlay_common::net::Vni;
use serde::{Deserialize, Serialize};

use super::{AddressStore, Allocator, IpamError, Lease};
use crate::store::StoreError;
use crate::store::backoff::Attempts;
use crate::store::client::{MAX_TXN_OPS, TxnOp};
use crate::store::schema::{self, AddressRecord, NodeId, Nonce, Owner, encode};

/// A released address whose record is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooling {
    pub net: Vni,
    pub ip: IpAddr,
    /// Of the claim that was let go.
    pub nonce: Nonce,
    /// Unix time in seconds.
    pub released: u64,
    /// Of the record.
    pub index: u64,
}

/// How an address is let go.
enum How<'a> {
    /// Nobody has ever used it.
    AtOnce,
    /// Its endpoint had this name.
    CoolDown(Option<&'a str>),
}

/// What became of the record.
enum Left {
    /// It was not the owner's any more.
    NotHeld,
    Nothing,
    Cooling(Cooling),
}

impl<S: AddressStore> Allocator<S> {
    /// Frees an address that was not used, if `owner` holds it, and by the claim of `nonce` if one is given.
    /// `false` when nobody held it.
    ///
    /// # Errors
    /// When another holds it.
    pub async fn free(
        &self,
        net: Vni,
        ip: IpAddr,
        owner: &Owner,
        nonce: Option<Nonce>,
    ) -> Result<bool, IpamError> {
        let left = self.let_go(net, ip, owner, nonce, How::AtOnce).await?;
        Ok(!matches!(left, Left::NotHeld))
    }

    /// Releases an address likewise, so that it cools down. What is returned is for [`Allocator::reap`], later; `None` when nobody
    /// held it. `name` is what its endpoint was called by its user.
    ///
    /// # Errors
    /// When another holds it.
    pub async fn release(
        &self,
        net: Vni,
        ip: IpAddr,
        owner: &Owner,
        nonce: Option<Nonce>,
        name: Option<&str>,
    ) -> Result<Option<Cooling>, IpamError> {
        match self
            .let_go(net, ip, owner, nonce, How::CoolDown(name))
            .await?
        {
            Left::Cooling(cooling) => Ok(Some(cooling)),
            Left::NotHeld | Left::Nothing => Ok(None),
        }
    }

    async fn let_go(
        &self,
        net: Vni,
        ip: IpAddr,
        owner: &Owner,
        nonce: Option<Nonce>,
        how: How<'_>,
    ) -> Result<Left, IpamError> {
        let key = self.keys.address(net, ip);
        let action = format!("release {ip}");
        let mut attempts = Attempts::new();
        let mut unknown = false;
        // By what a write with a lost answer has left, or somebody after it.
        let gone = |unknown| {
            if unknown {
                Left::Nothing
            } else {
                Left::NotHeld
            }
        };
        loop {
            let error = match self.store.get(&key).await {
                Ok(answer) => {
                    let Some(pair) = answer else {
                        return Ok(gone(unknown));
                    };
                    let record: AddressRecord = schema::decode(&pair)?;
                    if let Some(released) = record.released {
                        let ours = unknown && record.was_held_by(owner);
                        return Ok(if ours {
                            Left::Cooling(Cooling {
                                net,
                                ip,
                                nonce: record.nonce,
                                released,
                                index: pair.modify_index,
                            })
                        } else {
                            gone(unknown)
                        });
                    }
                    let ours = record.is_held_by(owner) && nonce.is_none_or(|n| n == record.nonce);
                    if !ours && unknown {
                        return Ok(Left::Nothing);
                    }
                    if !ours {
                        return Err(IpamError::NotOurs {
                            ip,
                            by: Box::new(record),
                        });
                    }
                    let after = match how {
                        How::AtOnce => None,
                        How::CoolDown(name) => Some(record.let_go(name)),
                    };
                    let write = match &after {
                        None => TxnOp::delete_cas(&key, pair.modify_index),
                        Some(after) => TxnOp::cas(&key, &encode(after), pair.modify_index),
                    };
                    match self.store.txn(&action, &[write]).await {
                        Ok(written) => {
                            let cooling = after.and_then(|after| {
                                Some(Cooling {
                                    net,
                                    ip,
                                    nonce: after.nonce,
                                    released: after.released?,
                                    index: written.first()?.modify_index,
                                })
                            });
                            return Ok(cooling.map_or(Left::Nothing, Left::Cooling));
                        }
                        Err(error) => {
                            unknown |= error.is_unknown_outcome();
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            attempts.after(error).await?;
        }
    }

    /// Deletes the records of addresses that have cooled down, unless somebody has taken them since.
    ///
    /// # Errors
    /// When some may be left.
    pub async fn reap(&self, cooling: &[Cooling]) -> Result<(), StoreError> {
        for batch in cooling.chunks(MAX_TXN_OPS) {
            let mut attempts = Attempts::new();
            while let Err(error) = self.try_reap(batch).await {
                attempts.after(error).await?;
            }
        }
        Ok(())
    }

    async fn try_reap(&self, batch: &[Cooling]) -> Result<(), StoreError> {
        let action = "read addresses that have cooled down";
        let key = |one: &Cooling| self.keys.address(one.net, one.ip);
        // `get` would fail for one that is gone.
        let reads: Vec<_> = batch.iter().map(|one| TxnOp::get_tree(key(one))).collect();
        let found = self.store.txn(action, &reads).await?;
        let deletes: Vec<_> = batch
            .iter()
            .filter_map(|one| {
                let key = key(one);
                let pair = found.iter().find(|pair| pair.key == key)?;
                let record: AddressRecord = schema::decode(pair).ok()?;
                let same = record.released.is_some() && record.nonce == one.nonce;
                same.then(|| TxnOp::delete_cas(key, pair.modify_index))
            })
            .collect();
        if deletes.is_empty() {
            return Ok(());
        }
        let action = "free addresses that have cooled down";
        self.store.txn(action, &deletes).await.map(drop)
    }

    /// Gives an address that a host holds to an endpoint there, whatever it was held for. To do so again
    /// changes nothing.
    ///
    /// # Errors
    /// When another host holds it, or nobody.
    pub async fn hand_over(&self, net: Vni, ip: IpAddr, to: &Owner) -> Result<Lease, IpamError> {
        let key = self.keys.address(net, ip);
        let action = format!("give {ip} to its endpoint");
        let mut attempts = Attempts::new();
        loop {
            let error = match self.read(net, ip).await {
                Ok(Some((found, index))) if found.released.is_none() => {
                    if found.is_held_by(to) {
                        let nonce = found.nonce;
                        return Ok(Lease { ip, nonce });
                    }
                    if found.node != to.node {
                        let by = Some(Box::new(found));
                        return Err(IpamError::Taken { ip, by });
                    }
                    let mut record = AddressRecord::claim(to);
                    record.extra = found.extra;
                    let write = TxnOp::cas(&key, &encode(&record), index);
                    match self.store.txn(&action, &[write]).await {
                        Ok(_) => {
                            let nonce = record.nonce;
                            return Ok(Lease { ip, nonce });
                        }
                        Err(error) => error,
                    }
                }
                Ok(_) => return Err(IpamError::NotHeld(ip)),
                Err(IpamError::Store(error)) => error,
                Err(other) => return Err(other),
            };
            attempts.after(error).await?;
        }
    }

    /// The addresses of a network that a host holds, and what for.
    pub async fn held(
        &self,
        net: Vni,
        node: NodeId,
    ) -> Result<Vec<(IpAddr, AddressRecord)>, StoreError> {
        let pairs = self.store.list(&self.keys.addresses_of(net)).await?;
        let held = pairs.iter().filter_map(|pair| {
            let (_, ip) = self.keys.parse_address(&pair.key).ok()?;
            let record: AddressRecord = schema::decode(pair).ok()?;
            let holds = record.node == node && record.released.is_none();
            holds.then_some((ip, record))
        });
        Ok(held.collect())
    }
}
