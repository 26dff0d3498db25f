//! The allocator against a model of the store: whatever the order in which hosts' requests come to it, whichever
//! answers are lost and whoever dies in the middle, an address is never two endpoints', and what nobody died over is free
//! in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use overlay_common::net::Vni;
use proptest::prelude::*;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{AddressStore, Allocator, Cooling, Family, Former, IpamError, Lease, Pool, Want};
use crate::store::client::TxnOp;
use crate::store::error::FailedOp;
use crate::store::schema::{EndpointId, Keys, NodeId, Owner};
use crate::store::{KvPair, StoreError};

const HOSTS: u64 = 3;
/// Each host's endpoints, one after the other.
const ROUNDS: usize = 4;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It gets lost before it arrives.
    Lost,
    /// It is carried out, and its answer gets lost.
    Unanswered,
}

#[derive(Debug, Default)]
struct Model {
    pairs: BTreeMap<String, KvPair>,
    index: u64,
    /// Requests on their way, by host.
    waiting: Vec<(u64, oneshot::Sender<Fate>)>,
    /// Who uses which address.
    used: BTreeMap<IpAddr, Owner>,
}

/// The store as one host sees it.
#[derive(Clone)]
struct Sight {
    host: u64,
    model: Arc<Mutex<Model>>,
}

impl Sight {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    /// Comes back when it is this request's turn.
    async fn ask<T>(
        &self,
        action: &str,
        carry_out: impl FnOnce(&mut Model) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (turn, fate) = oneshot::channel();
        self.model().waiting.push((self.host, turn));
        let fate = fate.await.unwrap();
        let lost = || StoreError::Server {
            action: action.to_owned(),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            detail: "EOF".to_owned(),
        };
        if fate == Fate::Lost {
            return Err(lost());
        }
        let answer = carry_out(&mut self.model());
        match fate {
            Fate::Unanswered => Err(lost()),
            Fate::Lost | Fate::Answered => answer,
        }
    }
}

impl AddressStore for Sight {
    async fn get(&self, key: &str) -> Result<Option<KvPair>, StoreError> {
        self.ask(key, |model| Ok(model.pairs.get(key).cloned()))
            .await
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let pairs = self.list(prefix).await?;
        Ok(pairs.into_iter().map(|pair| pair.key).collect())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<KvPair>, StoreError> {
        self.ask(prefix, |model| Ok(model.below(prefix))).await
    }

    async fn txn(&self, action: &str, ops: &[TxnOp]) -> Result<Vec<KvPair>, StoreError> {
        self.ask(action, |model| model.txn(action, ops)).await
    }
}

impl Model {
    fn below(&self, prefix: &str) -> Vec<KvPair> {
        let pairs = self.pairs.values();
        let below = pairs.filter(|pair| pair.key.starts_with(prefix));
        below.cloned().collect()
    }

    fn txn(&mut self, action: &str, ops: &[TxnOp]) -> Result<Vec<KvPair>, StoreError> {
        let ops: Vec<Value> = ops
            .iter()
            .map(|op| serde_json::to_value(op).unwrap())
            .collect();
        let key = |op: &Value| op["Key"].as_str().unwrap().to_owned();
        let failed = ops.iter().enumerate().filter(|(_, op)| {
            let found = self.pairs.get(&key(op)).map(|pair| pair.modify_index);
            match op["Verb"].as_str().unwrap() {
                "get" => found.is_none(),
                "get-tree" => false,
                "cas" | "delete-cas" => found.unwrap_or(0) != op["Index"].as_u64().unwrap(),
                other => panic!("{other} is not in the model"),
            }
        });
        let failed: Vec<_> = failed
            .map(|(op, _)| FailedOp {
                op,
                what: "index is stale".to_owned(),
            })
            .collect();
        if !failed.is_empty() {
            let action = action.to_owned();
            return Err(StoreError::Conflict { action, failed });
        }
        self.index += 1;
        let mut answer = Vec::new();
        for op in &ops {
            let key = key(op);
            match op["Verb"].as_str().unwrap() {
                "get" => answer.push(self.pairs[&key].clone()),
                "get-tree" => answer.extend(self.below(&key)),
                "delete-cas" => drop(self.pairs.remove(&key)),
                _ => {
                    let json = serde_json::json!({
                        "Key": &key, "Value": op["Value"], "CreateIndex": 1,
                        "ModifyIndex": self.index, "LockIndex": 0, "Flags": 0,
                    });
                    let pair: KvPair = serde_json::from_value(json).unwrap();
                    answer.push(pair.clone());
                    self.pairs.insert(key, pair);
                }
            }
        }
        Ok(answer)
    }

    /// An endpoint begins to use an address.
    fn start(&mut self, ip: IpAddr, owner: &Owner) {
        let other = self.used.insert(ip, owner.clone());
        assert!(other.is_none(), "{ip} is {owner:?}'s and {other:?}'s");
    }
}

fn pool() -> Pool {
    let json = serde_json::json!({"vni": 1, "subnets": ["10.0.0.0/29"], "gateway": "10.0.0.1"});
    Pool::of(&serde_json::from_value(json).unwrap())
}

fn net() -> Vni {
    Vni::new(1).unwrap()
}

/// One host: it adds and removes endpoints, and deletes what it has released.
async fn live(sight: Sight, kinds: Vec<u8>) {
    let (ipam, pool) = (Allocator::on(sight.clone(), Keys::new("t/")), pool());
    let (mut cooling, mut former): (Vec<Cooling>, Option<Former>) = (Vec::new(), None);
    for kind in kinds {
        let owner = Owner {
            node: NodeId::new(sight.host),
            endpoint: EndpointId::random(),
        };
        let want = match (kind % 4, former.take()) {
            (0, _) => Want::Address(format!("10.0.0.{}", 2 + kind / 4 % 3).parse().unwrap()),
            (1 | 2, Some(former)) => Want::Again(former),
            _ => Want::Any(Family::V4),
        };
        let lease = match ipam.allocate(&pool, &want, &owner).await {
            Ok(lease) => lease,
            Err(IpamError::Unsettled { lease, .. }) => {
                free(&ipam, lease, &owner).await;
                continue;
            }
            Err(_) => continue,
        };
        sight.model().start(lease.ip, &owner);
        // One that gives an address back that it never used.
        let unused = kind & 16 != 0;
        // What happens meanwhile.
        for _ in 0..=kind % 3 {
            if let Ok(holder) = ipam.holder(net(), lease.ip).await {
                assert!(
                    holder
                        .as_ref()
                        .is_some_and(|holder| holder.is_held_by(&owner)),
                    "{lease:?} is {holder:?}'s"
                );
            }
        }
        sight.model().used.remove(&lease.ip);
        if unused {
            free(&ipam, lease, &owner).await;
            continue;
        }
        let name = "web";
        let released = loop {
            match ipam
                .release(net(), lease.ip, &owner, None, Some(name))
                .await
            {
                Ok(released) => break released,
                Err(IpamError::Store(_)) => {}
                Err(error) => panic!("{lease:?}: {error}"),
            }
        };
        former = released.as_ref().map(|cooling| Former {
            ip: cooling.ip,
            name: name.to_owned(),
            index: if kind & 32 == 0 { cooling.index } else { 0 },
        });
        cooling.extend(released);
        if kind & 64 != 0 {
            while ipam.reap(&cooling).await.is_err() {}
        }
    }
    while ipam.reap(&cooling).await.is_err() {}
}

async fn free(ipam: &Allocator<Sight>, lease: Lease, owner: &Owner) {
    loop {
        let nonce = Some(lease.nonce);
        match ipam.free(net(), lease.ip, owner, nonce).await {
            // It was not claimed after all.
            Ok(_) | Err(IpamError::NotOurs { .. }) => return,
            Err(IpamError::Store(_)) => {}
            Err(error) => panic!("{lease:?}: {error}"),
        }
    }
}

/// What happens next: a host's turn, and what becomes of its request. Few die.
#[derive(Clone, Copy, Debug)]
enum Event {
    Turn(usize, Fate),
    Death(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        8 => Just(Fate::Answered),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Unanswered),
    ];
    prop_oneof![
        60 => (any::<usize>(), fate).prop_map(|(at, fate)| Event::Turn(at, fate)),
        1 => any::<usize>().prop_map(Event::Death),
    ]
}

/// Lets hosts run until each waits for its turn, sleeps or is done.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

async fn run(kinds: Vec<Vec<u8>>, events: Vec<Event>) {
    let model = Arc::new(Mutex::new(Model::default()));
    let keys = Keys::new("t/");
    let network = TxnOp::cas(keys.vni(net()), b"\"blue\"", 0);
    model.lock().unwrap().txn("make", &[network]).unwrap();
    let mut hosts: BTreeMap<u64, JoinHandle<()>> = BTreeMap::new();
    for (host, kinds) in (0..HOSTS).zip(kinds) {
        let sight = Sight {
            host,
            model: Arc::clone(&model),
        };
        hosts.insert(host, tokio::spawn(live(sight, kinds)));
    }
    let mut dead = BTreeSet::new();
    // In the end everything is answered.
    let rest = std::iter::repeat(Event::Turn(0, Fate::Answered));
    for event in events.into_iter().chain(rest).take(100_000) {
        settle().await;
        if hosts.values().all(JoinHandle::is_finished) {
            break;
        }
        let waiting = model.lock().unwrap().waiting.len();
        if waiting == 0 {
            // All that are left are backing off.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        }
        let of = |at: usize| at % waiting;
        match event {
            Event::Turn(at, fate) => {
                let (_, turn) = model.lock().unwrap().waiting.remove(of(at));
                turn.send(fate).unwrap();
            }
            Event::Death(at) => {
                let (host, _turn) = model.lock().unwrap().waiting.remove(of(at));
                hosts[&host].abort();
                dead.insert(host);
            }
        }
    }
    for (host, task) in hosts {
        let ended = task.await;
        assert!(ended.is_ok() || dead.contains(&host), "{ended:?}");
    }
    let model = model.lock().unwrap();
    let left = model.below(&keys.addresses_of(net()));
    let left = left.iter().filter(|pair| {
        let record: Value = serde_json::from_slice(&pair.value).unwrap();
        !dead
            .iter()
            .any(|host| record["node"] == NodeId::new(*host).to_string())
    });
    assert_eq!(left.count(), 0, "leaked");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_address_twice_and_none_lost(
        kinds in proptest::collection::vec(proptest::collection::vec(any::<u8>(), ROUNDS), HOSTS as usize),
        events in proptest::collection::vec(event(), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(kinds, events));
    }
}
