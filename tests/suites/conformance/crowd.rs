//! Many hosts that allocate at once on a network that is nearly full.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use overlay_agent::ipam::{AddressStore, Allocator, Family, Pool, Want};
use overlay_agent::store::client::{MAX_TXN_OPS, TxnOp};
use overlay_agent::store::schema::{AddressRecord, NodeId, encode};
use overlay_agent::store::{Client, KvPair, StoreError};
use rand::seq::SliceRandom as _;

use super::Place;
use super::networks::{blank, join_all};
use super::publish::owner;

const TAKEN: usize = 60_000;
const HOSTS: usize = 8;
const EACH: usize = 125;
/// Store requests for all of them, on average 1.5 each.
const MOST: usize = HOSTS * EACH * 3 / 2;

/// Counts the requests of one host.
struct Counted(Client, Arc<AtomicUsize>);

impl Counted {
    fn count(&self) -> &Client {
        self.1.fetch_add(1, Ordering::Relaxed);
        &self.0
    }
}

impl AddressStore for Counted {
    async fn get(&self, key: &str) -> Result<Option<KvPair>, StoreError> {
        AddressStore::get(self.count(), key).await
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        AddressStore::keys(self.count(), prefix).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<KvPair>, StoreError> {
        AddressStore::list(self.count(), prefix).await
    }

    async fn txn(&self, action: &str, ops: &[TxnOp]) -> Result<Vec<KvPair>, StoreError> {
        AddressStore::txn(self.count(), action, ops).await
    }
}

/// 60 000 addresses of a /16 are taken; eight hosts claim 125 more each.
pub(super) async fn no_address_twice_at_few_requests(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let new = overlay_agent::store::registry::NewNetwork {
        subnets: vec!["10.9.0.0/16".parse()?],
        ..blank("crowd")
    };
    let pool = Pool::of(&at.registry.create_network(&new).await?.record);
    let all =
        (0..=u16::MAX).map(|low| IpAddr::from(Ipv4Addr::new(10, 9, (low >> 8) as u8, low as u8)));
    let mut all: Vec<_> = all.filter(|ip| pool.gives(*ip)).collect();
    all.shuffle(&mut rand::rng());
    all.truncate(TAKEN);
    let claim = |ip: &IpAddr| {
        let record = AddressRecord::claim(&owner(NodeId::random()));
        TxnOp::set(at.keys.address(pool.net(), *ip), &encode(&record))
    };
    let ops: Vec<_> = all.iter().map(claim).collect();
    // Some at a time: each waits for the server's disk.
    for batches in ops.chunks(8 * MAX_TXN_OPS) {
        let batches = batches.chunks(MAX_TXN_OPS);
        for done in join_all(batches.map(|batch| at.client.txn("fill", batch))).await {
            done?;
        }
    }

    let requests = Arc::new(AtomicUsize::new(0));
    let host = async || {
        let client = Client::new(&at.config)?;
        let ipam = Allocator::on(Counted(client, Arc::clone(&requests)), at.keys.clone());
        let node = NodeId::random();
        let mut given = Vec::new();
        for _ in 0..EACH {
            let lease = ipam
                .allocate(&pool, &Want::Any(Family::V4), &owner(node))
                .await?;
            given.push(lease.ip);
        }
        anyhow::Ok(given)
    };
    let mut given = Vec::new();
    for of_host in join_all((0..HOSTS).map(|_| host())).await {
        given.extend(of_host?);
    }
    let taken: BTreeSet<_> = all.iter().chain(&given).collect();
    ensure!(
        taken.len() == TAKEN + HOSTS * EACH,
        "an address was given twice"
    );
    let requests = requests.load(Ordering::Relaxed);
    println!("{requests} requests for {} allocations", HOSTS * EACH);
    ensure!(requests <= MOST, "{requests} requests");
    Ok(())
}
