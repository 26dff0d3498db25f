//! Giving out a network's addresses: one key per address, created only if it is not there.

mod error;
mod pool;

use std::collections::BTreeSet;
use std::net::IpAddr;

use overlay_common::net::Vni;
use rand::Rng as _;
use rand::seq::SliceRandom as _;

pub use error::IpamError;
pub use pool::{Family, Pool};

use crate::store::backoff::Attempts;
use crate::store::client::TxnOp;
use crate::store::schema::{self, AddressRecord, NodeId, Nonce, Owner, encode};
use crate::store::{Registry, StoreError};

/// Which address is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Any of the family.
    Any(Family),
    /// Just this one.
    Address(IpAddr),
}

/// An address that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub ip: IpAddr,
    /// Of the claim; see [`release`].
    pub nonce: Nonce,
}

/// How many blocks are looked at one by one before the whole network's list is read.
const BLOCKS: usize = 4;
/// How many free addresses are tried from the whole list.
const CANDIDATES: usize = 256;

/// Positions in the transaction that claims an address.
const OP_NETWORK: usize = 0;
const OP_ADDRESS: usize = 1;

/// What became of a claim.
enum Claim {
    Held(Nonce),
    Taken,
}

/// Claims an address for `owner`. To ask again for an address that the owner holds gives it again.
///
/// # Errors
/// When the address cannot be a host's, another holds it, or none is left.
pub async fn allocate(
    registry: &Registry,
    pool: &Pool,
    want: Want,
    owner: &Owner,
) -> Result<Lease, IpamError> {
    match want {
        Want::Address(ip) => exact(registry, pool, ip, owner).await,
        Want::Any(family) => any(registry, pool, family, owner).await,
    }
}

/// Frees an address if `owner` holds it, and by the claim of `nonce` if one is given. `false` when
/// nobody held it.
///
/// # Errors
/// When another holds it.
pub async fn release(
    registry: &Registry,
    net: Vni,
    ip: IpAddr,
    owner: &Owner,
    nonce: Option<Nonce>,
) -> Result<bool, IpamError> {
    let key = registry.keys().address(net, ip);
    let action = format!("release {ip}");
    let mut attempts = Attempts::new();
    let mut unknown = false;
    loop {
        let error = match registry.client().get(&key).await {
            Ok(answer) => {
                let Some(pair) = answer.value else {
                    return Ok(unknown);
                };
                let record: AddressRecord = schema::decode(&pair)?;
                let ours = record.is_held_by(owner) && nonce.is_none_or(|n| n == record.nonce);
                // After an unknown outcome the next holder proves that ours is gone.
                if !ours && unknown {
                    return Ok(true);
                }
                if !ours {
                    return Err(IpamError::NotOurs { ip, by: record });
                }
                let delete = TxnOp::delete_cas(&key, pair.modify_index);
                match registry.client().txn(&action, &[delete]).await {
                    Ok(_) => return Ok(true),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        unknown |= error.is_unknown_outcome();
        attempts.after(error).await?;
    }
}

/// Gives an address that a host holds to an endpoint there, whatever it was held for. To do so again
/// changes nothing.
///
/// # Errors
/// When another host holds it, or nobody.
pub async fn hand_over(
    registry: &Registry,
    net: Vni,
    ip: IpAddr,
    to: &Owner,
) -> Result<Lease, IpamError> {
    let key = registry.keys().address(net, ip);
    let action = format!("give {ip} to its endpoint");
    let mut attempts = Attempts::new();
    loop {
        let error = match registry.client().get(&key).await {
            Ok(answer) => {
                let Some(pair) = answer.value else {
                    return Err(IpamError::NotHeld(ip));
                };
                let found: AddressRecord = schema::decode(&pair)?;
                if found.is_held_by(to) {
                    let nonce = found.nonce;
                    return Ok(Lease { ip, nonce });
                }
                if found.node != to.node {
                    return Err(IpamError::Taken {
                        ip,
                        by: Some(found),
                    });
                }
                let mut record = AddressRecord::claim(to);
                record.extra = found.extra;
                let write = TxnOp::cas(&key, &encode(&record), pair.modify_index);
                match registry.client().txn(&action, &[write]).await {
                    Ok(_) => {
                        let nonce = record.nonce;
                        return Ok(Lease { ip, nonce });
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        attempts.after(error).await?;
    }
}

/// The addresses of a network that a host holds, and what for.
pub async fn held(
    registry: &Registry,
    net: Vni,
    node: NodeId,
) -> Result<Vec<(IpAddr, AddressRecord)>, StoreError> {
    let keys = registry.keys();
    let pairs = registry.client().list(&keys.addresses_of(net)).await?.value;
    let held = pairs.iter().filter_map(|pair| {
        let (_, ip) = keys.parse_address(&pair.key).ok()?;
        let record: AddressRecord = schema::decode(pair).ok()?;
        (record.node == node).then_some((ip, record))
    });
    Ok(held.collect())
}

async fn exact(
    registry: &Registry,
    pool: &Pool,
    ip: IpAddr,
    owner: &Owner,
) -> Result<Lease, IpamError> {
    pool.check(ip)?;
    match claim(registry, pool.net(), ip, owner).await? {
        Claim::Held(nonce) => Ok(Lease { ip, nonce }),
        Claim::Taken => match holder(registry, pool.net(), ip).await? {
            Some(record) if record.is_held_by(owner) => Ok(Lease {
                ip,
                nonce: record.nonce,
            }),
            by => Err(IpamError::Taken { ip, by }),
        },
    }
}

async fn any(
    registry: &Registry,
    pool: &Pool,
    family: Family,
    owner: &Owner,
) -> Result<Lease, IpamError> {
    let blocks = pool.blocks(family);
    if blocks.is_empty() {
        return Err(IpamError::NoSubnet { family });
    }
    // A node begins at a block of its own, so that nodes seldom meet; then anywhere.
    let mut number = u128::from(owner.node.get()) % blocks.len();
    for _ in 0..BLOCKS {
        let block = blocks.nth(number);
        let folder = registry.keys().addresses_of(pool.net());
        let prefix = format!("{folder}{}", block.hex());
        let taken = taken(registry, &prefix).await?;
        let free = pool.free_in(block, &taken);
        if let Some(lease) = first_of(registry, pool, free, owner).await? {
            return Ok(lease);
        }
        number = rand::rng().random_range(0..blocks.len());
    }
    let folder = registry.keys().addresses_of(pool.net());
    let taken = taken(registry, &folder).await?;
    let start = rand::rng().random_range(0..blocks.len());
    let mut free = Vec::new();
    for offset in 0..blocks.len() {
        let block = blocks.nth((start + offset) % blocks.len());
        free.extend(pool.free_in(block, &taken));
        if free.len() >= CANDIDATES {
            break;
        }
    }
    first_of(registry, pool, free, owner)
        .await?
        .ok_or_else(|| IpamError::Exhausted {
            family,
            subnets: pool.subnets_of(family),
        })
}

/// Claims one of `free`, in random order.
async fn first_of(
    registry: &Registry,
    pool: &Pool,
    mut free: Vec<IpAddr>,
    owner: &Owner,
) -> Result<Option<Lease>, IpamError> {
    free.shuffle(&mut rand::rng());
    for ip in free {
        if let Claim::Held(nonce) = claim(registry, pool.net(), ip, owner).await? {
            return Ok(Some(Lease { ip, nonce }));
        }
    }
    Ok(None)
}

/// Tries one address. Fails for a network that does not exist: a claim that outlives its network
/// would be the next one's problem.
async fn claim(
    registry: &Registry,
    net: Vni,
    ip: IpAddr,
    owner: &Owner,
) -> Result<Claim, IpamError> {
    let keys = registry.keys();
    let record = AddressRecord::claim(owner);
    let ops = [
        TxnOp::get(keys.vni(net)),
        TxnOp::cas(keys.address(net, ip), &encode(&record), 0),
    ];
    let action = format!("claim {ip}");
    let mut attempts = Attempts::new();
    let mut unknown = false;
    loop {
        let Err(error) = registry.client().txn(&action, &ops).await else {
            return Ok(Claim::Held(record.nonce));
        };
        if error.op_failed(OP_NETWORK) {
            return Err(IpamError::NoSuchNetwork(net));
        }
        let error = if error.op_failed(OP_ADDRESS) {
            if !unknown {
                return Ok(Claim::Taken);
            }
            match holder(registry, net, ip).await {
                Ok(Some(found)) if found.nonce == record.nonce => {
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

/// Who holds an address; `None` when it was freed meanwhile.
pub async fn holder(
    registry: &Registry,
    net: Vni,
    ip: IpAddr,
) -> Result<Option<AddressRecord>, IpamError> {
    let pair = registry
        .client()
        .get(&registry.keys().address(net, ip))
        .await?
        .value;
    Ok(pair.map(|pair| schema::decode(&pair)).transpose()?)
}

/// The addresses that are claimed under a prefix.
async fn taken(registry: &Registry, prefix: &str) -> Result<BTreeSet<IpAddr>, StoreError> {
    let keys = registry.client().keys(prefix).await?.value;
    let ips = keys
        .iter()
        .filter_map(|key| registry.keys().parse_address(key).ok());
    Ok(ips.map(|(_, ip)| ip).collect())
}
