//! Choosing an address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rand::Rng as _;

use super::claim::{Claim, Outcome};
use super::free::FreeLists;
use super::{AddressStore, Family, Former, IpamError, Lease, Pool, Want};
use crate::store::schema::{self, AddressRecord, COOL_DOWN, Keys, Owner, unix_now};
use crate::store::{Client, Registry, StoreError};

/// How many blocks are looked at one by one before the whole network's list is read.
const BLOCKS: usize = 4;
/// How many free addresses are tried from the whole list.
const CANDIDATES: usize = 256;

/// Gives out addresses of all networks of one store.
#[derive(Debug)]
pub struct Allocator<S = Client> {
    pub(super) store: S,
    pub(super) keys: Keys,
    /// Of the blocks that were looked at last: most allocations ask the store for the claim alone.
    free: FreeLists,
}

impl Allocator {
    pub fn new(registry: &Registry) -> Self {
        Self::on(registry.client().clone(), registry.keys().clone())
    }
}

impl<S: AddressStore> Allocator<S> {
    pub fn on(store: S, keys: Keys) -> Self {
        Self {
            store,
            keys,
            free: FreeLists::default(),
        }
    }

    /// Claims an address for `owner`. To ask again for an address that the owner holds gives it again.
    ///
    /// # Errors
    /// When the address cannot be a host's, another holds it, or none is left.
    pub async fn allocate(
        &self,
        pool: &Pool,
        want: &Want,
        owner: &Owner,
    ) -> Result<Lease, IpamError> {
        match want {
            Want::Address(ip) => self.exact(pool, *ip, owner).await,
            Want::Any(family) => self.any(pool, *family, owner).await,
            Want::Again(former) => self.again(pool, former, owner).await,
        }
    }

    async fn exact(&self, pool: &Pool, ip: IpAddr, owner: &Owner) -> Result<Lease, IpamError> {
        pool.check(ip)?;
        match self.take(pool, ip, owner, 0, |_| true).await? {
            Outcome::Held(lease) => Ok(lease),
            Outcome::Taken(by) => Err(IpamError::Taken {
                ip,
                by: by.map(Box::new),
            }),
        }
    }

    async fn again(&self, pool: &Pool, former: &Former, owner: &Owner) -> Result<Lease, IpamError> {
        let Former { ip, name, index } = former;
        if pool.check(*ip).is_ok() {
            let may = |record: &AddressRecord| {
                record.name.as_ref() == Some(name) || has_cooled_down(record)
            };
            match self.take(pool, *ip, owner, *index, may).await {
                Ok(Outcome::Held(lease)) => return Ok(lease),
                // There are others.
                Ok(Outcome::Taken(_)) | Err(IpamError::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.any(pool, Family::of(*ip), owner).await
    }

    async fn any(&self, pool: &Pool, family: Family, owner: &Owner) -> Result<Lease, IpamError> {
        let net = pool.net();
        let subnets = pool.subnets_of(family);
        if subnets.is_empty() {
            return Err(IpamError::NoSubnet { family });
        }
        let blocks = pool.blocks(family);
        let random = || rand::rng().random_range(0..blocks.len().max(1));
        // A node begins at a block of its own, so that nodes seldom meet; then anywhere.
        let mut number = match self.free.has_looked(net, family) {
            true => random(),
            false => u128::from(owner.node.get()) % blocks.len().max(1),
        };
        if let Some(lease) = self.one_of_the_free(pool, family, owner, false).await? {
            return Ok(lease);
        }
        let folder = self.keys.addresses_of(net);
        for _ in 0..BLOCKS {
            let block = blocks.nth(number);
            let taken = self.taken(&format!("{folder}{}", block.hex())).await?;
            self.free.put(net, family, pool.free_in(block, &taken));
            if let Some(lease) = self.one_of_the_free(pool, family, owner, false).await? {
                return Ok(lease);
            }
            number = random();
        }
        let taken = self.taken(&folder).await?;
        let start = random();
        let mut free = Vec::new();
        for offset in 0..blocks.len() {
            let block = blocks.nth((start + offset) % blocks.len());
            free.extend(pool.free_in(block, &taken));
            if free.len() >= CANDIDATES {
                break;
            }
        }
        self.free.put(net, family, free);
        if let Some(lease) = self.one_of_the_free(pool, family, owner, true).await? {
            return Ok(lease);
        }
        self.longest_released(pool, family, owner)
            .await?
            .ok_or(IpamError::Exhausted { family, subnets })
    }

    /// Claims one of those that are known to be free. Whoever has one of them by now has others of the same block,
    /// too: it is only worth going on when there is no other block.
    async fn one_of_the_free(
        &self,
        pool: &Pool,
        family: Family,
        owner: &Owner,
        all: bool,
    ) -> Result<Option<Lease>, IpamError> {
        while let Some(ip) = self.free.take(pool, family) {
            match self.claim(pool.net(), ip, owner, 0).await? {
                Claim::Held(nonce) => return Ok(Some(Lease { ip, nonce })),
                Claim::Taken if all => {}
                Claim::Taken => {
                    self.free.put(pool.net(), family, Vec::new());
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Claims a released address, the one that has been free the longest: also what hosts have left that are gone.
    async fn longest_released(
        &self,
        pool: &Pool,
        family: Family,
        owner: &Owner,
    ) -> Result<Option<Lease>, IpamError> {
        let net = pool.net();
        let pairs = self.store.list(&self.keys.addresses_of(net)).await?;
        let released = pairs.iter().filter_map(|pair| {
            let (_, ip) = self.keys.parse_address(&pair.key).ok()?;
            let record: AddressRecord = schema::decode(pair).ok()?;
            let fits = Family::of(ip) == family && pool.gives(ip);
            Some((record.released?, ip, pair.modify_index)).filter(|_| fits)
        });
        let mut released: Vec<_> = released.collect();
        released.sort_unstable();
        for (_, ip, index) in released {
            if let Claim::Held(nonce) = self.claim(net, ip, owner, index).await? {
                return Ok(Some(Lease { ip, nonce }));
            }
        }
        Ok(None)
    }

    /// The addresses under a prefix that have a record.
    async fn taken(&self, prefix: &str) -> Result<BTreeSet<IpAddr>, StoreError> {
        let keys = self.store.keys(prefix).await?;
        let ips = keys
            .iter()
            .filter_map(|key| self.keys.parse_address(key).ok());
        Ok(ips.map(|(_, ip)| ip).collect())
    }
}

fn has_cooled_down(record: &AddressRecord) -> bool {
    let released = record.released.unwrap_or(u64::MAX);
    released.saturating_add(COOL_DOWN.as_secs()) <= unix_now()
}
