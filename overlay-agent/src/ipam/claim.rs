//! Claiming one address: a compare-and-set whose outcome is found out.

use std::net::IpAddr;

use overlay_common::net::Vni;

use super::{AddressStore, Allocator, IpamError, Lease, Pool};
use crate::store::backoff::Attempts;
use crate::store::client::TxnOp;
use crate::store::schema::{self, AddressRecord, Nonce, Owner, encode};

/// Positions in the transaction that claims an address.
pub(super) const OP_NETWORK: usize = 0;
const OP_ADDRESS: usize = 1;

/// What became of a claim.
pub(super) enum Claim {
    Held(Nonce),
    Taken,
}

/// What became of a claim of just this address.
pub(super) enum Outcome {
    Held(Lease),
    /// By whom; `None` when it was freed in the same moment.
    Taken(Option<AddressRecord>),
}

impl<S: AddressStore> Allocator<S> {
    /// Claims just this address: a free one, the owner's own, or a released one that it `may` have. `index` is that of
    /// its released record, if that is known.
    pub(super) async fn take(
        &self,
        pool: &Pool,
        ip: IpAddr,
        owner: &Owner,
        mut index: u64,
        may: impl Fn(&AddressRecord) -> bool + Send,
    ) -> Result<Outcome, IpamError> {
        let net = pool.net();
        loop {
            if let Claim::Held(nonce) = self.claim(net, ip, owner, index).await? {
                return Ok(Outcome::Held(Lease { ip, nonce }));
            }
            match self.read(net, ip).await? {
                Some((record, _)) if record.is_held_by(owner) => {
                    let nonce = record.nonce;
                    return Ok(Outcome::Held(Lease { ip, nonce }));
                }
                Some((record, now))
                    if now != index && record.released.is_some() && may(&record) =>
                {
                    index = now;
                }
                None if index != 0 => index = 0,
                found => return Ok(Outcome::Taken(found.map(|(record, _)| record))),
            }
        }
    }

    /// Tries one address whose record has this index; 0 when there is none. Fails for a network that does not
    /// exist: a claim that outlives its network would be the next one's problem.
    pub(super) async fn claim(
        &self,
        net: Vni,
        ip: IpAddr,
        owner: &Owner,
        index: u64,
    ) -> Result<Claim, IpamError> {
        let record = AddressRecord::claim(owner);
        let ops = self.claims(net, ip, &record, index);
        let action = format!("claim {ip}");
        let mut attempts = Attempts::new();
        let mut unknown = false;
        loop {
            let Err(error) = self.store.txn(&action, &ops).await else {
                return Ok(Claim::Held(record.nonce));
            };
            if error.op_failed(OP_NETWORK) {
                return Err(IpamError::NoSuchNetwork(net));
            }
            let error = if error.op_failed(OP_ADDRESS) {
                if !unknown {
                    return Ok(Claim::Taken);
                }
                match self.read(net, ip).await {
                    Ok(Some((found, _))) if found.nonce == record.nonce => {
                        return Ok(Claim::Held(record.nonce));
                    }
                    // A claim that cannot be read is not ours.
                    Ok(_) | Err(IpamError::Corrupt(_)) => return Ok(Claim::Taken),
                    Err(IpamError::Store(error)) => error,
                    Err(other) => return Err(other),
                }
            } else {
                error
            };
            unknown |= error.is_unknown_outcome();
            if let Err(source) = attempts.after(error).await {
                let nonce = record.nonce;
                return Err(if unknown {
                    let lease = Lease { ip, nonce };
                    IpamError::Unsettled { lease, source }
                } else {
                    source.into()
                });
            }
        }
    }

    /// The transaction that claims an address whose record has this index, on a network that exists.
    pub(super) fn claims(
        &self,
        net: Vni,
        ip: IpAddr,
        record: &AddressRecord,
        index: u64,
    ) -> [TxnOp; 2] {
        [
            TxnOp::get(self.keys.vni(net)),
            TxnOp::cas(self.keys.address(net, ip), &encode(record), index),
        ]
    }

    /// An address's record with its index.
    pub(super) async fn read(
        &self,
        net: Vni,
        ip: IpAddr,
    ) -> Result<Option<(AddressRecord, u64)>, IpamError> {
        let pair = self.store.get(&self.keys.address(net, ip)).await?;
        let read = pair.map(|pair| Ok((schema::decode(&pair)?, pair.modify_index)));
        read.transpose()
    }

    /// Who holds an address; `None` when nobody does.
    pub async fn holder(&self, net: Vni, ip: IpAddr) -> Result<Option<AddressRecord>, IpamError> {
        let found = self.read(net, ip).await?.map(|(record, _)| record);
        Ok(found.filter(|record| record.released.is_none()))
    }
}
