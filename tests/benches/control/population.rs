//! Simulated hosts and their endpoints, as the store has them.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use overlay_agent::control::endpoints::mac_for;
use overlay_agent::store::Client;
use overlay_agent::store::client::{MAX_TXN_OPS, TxnOp};
use overlay_agent::store::schema::{
    AddressRecord, EndpointId, EndpointPath, EndpointRecord, Extra, Hint, Keys, NodeId, NodeRecord,
    Owner, Revision, bucket, decode, encode,
};
use overlay_common::net::{MacAddr, Vni};
use tests::interrupt;
use tokio::task::JoinSet;

use crate::world::{World, simulated_ip};

/// Transactions at a time.
const SIDE_BY_SIDE: usize = 4;

pub type Endpoint = (EndpointPath, EndpointRecord);

/// What a network has on simulated hosts.
#[derive(Debug)]
pub struct Population {
    net: Vni,
    pub hosts: Vec<Simulated>,
    made: u32,
}

#[derive(Debug)]
pub struct Simulated {
    pub node: NodeId,
    pub endpoints: Vec<Endpoint>,
}

/// What [`Population::churn`] has changed.
#[derive(Debug, Default)]
pub struct Churn {
    pub added: Vec<MacAddr>,
    pub removed: Vec<MacAddr>,
}

impl Population {
    /// Writes so many hosts with so many endpoints each straight to their keys: one by one, as hosts do,
    /// would take hours.
    pub fn new(world: &World, hosts: u32, each: u32) -> Result<Self> {
        let registry = world.registry()?;
        let keys = registry.keys();
        let mut population = Self {
            net: world.net,
            hosts: Vec::new(),
            made: 0,
        };
        let mut nodes = Vec::new();
        let mut transactions = Vec::new();
        for number in 0..hosts {
            let (node, record) = node(number);
            nodes.push(TxnOp::set(keys.node(node), &encode(&record)));
            population.hosts.push(Simulated {
                node,
                endpoints: Vec::new(),
            });
            let host = population.hosts.len() - 1;
            let endpoints = (0..each)
                .map(|_| population.fresh(host))
                .collect::<Vec<_>>();
            let mut ops: Vec<_> = endpoints.iter().map(|one| put(keys, one)).collect();
            let count = u64::from(each);
            ops.extend(announce(keys, endpoints.last(), count, count));
            transactions.extend(ops.chunks(MAX_TXN_OPS).map(<[TxnOp]>::to_vec));
            population.hosts[host].endpoints = endpoints;
        }
        let nodes = nodes.chunks(MAX_TXN_OPS).map(<[TxnOp]>::to_vec);
        let client = registry.client().clone();
        let all = nodes.chain(transactions).collect();
        world.simulated.run(write(client, all))?;
        Ok(population)
    }

    /// An endpoint that is not published yet, on one of the hosts.
    pub fn fresh(&mut self, host: usize) -> Endpoint {
        let ip = simulated_ip(self.made);
        self.made += 1;
        let id = EndpointId::random_of_docker();
        let path = EndpointPath {
            node: self.hosts[host].node,
            net: self.net,
            id: id.clone(),
        };
        let record = EndpointRecord {
            ip4: Some(ip),
            ip6: None,
            mac: mac_for(ip),
            name: format!("web-{}", self.made),
            // As long as Docker's.
            container: Some(id.to_string()),
            aliases: Vec::new(),
            allow_ips: Vec::new(),
            forwarding: false,
            extra: Extra::new(),
        };
        (path, record)
    }

    /// Endpoints whose addresses are claimed, so that they can be published; host after host in turn.
    pub fn claimed(&mut self, world: &World, count: usize) -> Result<Vec<Endpoint>> {
        let hosts = self.hosts.len();
        let endpoints: Vec<_> = (0..count).map(|i| self.fresh(i % hosts)).collect();
        let registry = world.registry()?;
        let claims = endpoints.iter().map(|one| claim(registry.keys(), one));
        let claims: Vec<TxnOp> = claims.collect::<Option<_>>().context("no address")?;
        let chunks = claims.chunks(MAX_TXN_OPS).map(<[TxnOp]>::to_vec).collect();
        world
            .simulated
            .run(write(registry.client().clone(), chunks))?;
        Ok(endpoints)
    }

    /// Changes so many endpoints at once, as many on each host: half are removed, half are new. A host's
    /// changes are one transaction.
    pub fn churn(&mut self, world: &World, changes: usize) -> Result<Churn> {
        let registry = world.registry()?;
        let each = changes / self.hosts.len() / 2;
        let mut churn = Churn::default();
        let mut batches = Vec::new();
        for host in 0..self.hosts.len() {
            let new: Vec<_> = (0..each).map(|_| self.fresh(host)).collect();
            let old: Vec<_> = self.hosts[host].endpoints.drain(..each).collect();
            let keys = registry.keys();
            let mut ops: Vec<_> = old
                .iter()
                .map(|(path, _)| TxnOp::delete(keys.endpoint(path)))
                .collect();
            ops.extend(new.iter().map(|one| put(keys, one)));
            churn.removed.extend(old.iter().map(|(_, one)| one.mac));
            churn.added.extend(new.iter().map(|(_, one)| one.mac));
            batches.push((new.last().cloned(), ops));
            self.hosts[host].endpoints.extend(new);
        }
        let changed = 2 * each as u64;
        let net = self.net;
        world.simulated.run(async move {
            let keys = registry.keys();
            let listed = registry.client().list(&keys.revisions_of(net)).await?;
            let mut all = Vec::new();
            for (last, mut ops) in batches {
                let path = &last.as_ref().context("a host without endpoints")?.0;
                let key = keys.revision(path.net, path.node);
                let pair = listed.value.iter().find(|pair| pair.key == key);
                let before: Revision = decode(pair.context("a host without a revision")?)
                    .map_err(|bad| anyhow::anyhow!("{bad}"))?;
                ops.extend(announce(
                    keys,
                    last.as_ref(),
                    before.rev + changed,
                    before.endpoints,
                ));
                all.push(ops);
            }
            write(registry.client().clone(), all).await
        })?;
        Ok(churn)
    }

    /// Counts a published endpoint among those that are there.
    pub fn keep(&mut self, endpoint: Endpoint) {
        let node = endpoint.0.node;
        if let Some(host) = self.hosts.iter_mut().find(|host| host.node == node) {
            host.endpoints.push(endpoint);
        }
    }

    pub fn macs(&self) -> impl Iterator<Item = MacAddr> {
        let endpoints = self.hosts.iter().flat_map(|host| &host.endpoints);
        endpoints.map(|(_, record)| record.mac)
    }
}

fn node(number: u32) -> (NodeId, NodeRecord) {
    let name = format!("simulated-{number}");
    let vtep = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + number);
    let record = NodeRecord {
        name: name.clone(),
        vteps: vec![vtep.into()],
        port: 4789,
        version: String::new(),
        schema: 0,
        agent: false,
        stopped: None,
        extra: Extra::new(),
    };
    (NodeId::of_name(&name), record)
}

fn put(keys: &Keys, (path, record): &Endpoint) -> TxnOp {
    TxnOp::set(keys.endpoint(path), &encode(record))
}

fn claim(keys: &Keys, (path, record): &Endpoint) -> Option<TxnOp> {
    let owner = Owner {
        node: path.node,
        endpoint: path.id.clone(),
    };
    let key = keys.address(path.net, record.ip4?.into());
    Some(TxnOp::set(key, &encode(&AddressRecord::claim(&owner))))
}

/// What a host writes with its changes, of which this is the last.
fn announce(keys: &Keys, last: Option<&Endpoint>, rev: u64, endpoints: u64) -> Vec<TxnOp> {
    let Some((path, _)) = last else {
        return Vec::new();
    };
    let hint = Hint {
        node: path.node,
        endpoint: path.id.clone(),
        rev,
    };
    let revision = Revision { rev, endpoints };
    vec![
        TxnOp::set(keys.revision(path.net, path.node), &encode(&revision)),
        TxnOp::set(keys.hint(path.net, bucket(path.node)), &hint.encode()),
    ]
}

async fn write(client: Client, transactions: Vec<Vec<TxnOp>>) -> Result<()> {
    let mut running = JoinSet::new();
    for ops in transactions {
        interrupt::check()?;
        if running.len() >= SIDE_BY_SIDE {
            running.join_next().await.context("nothing runs")???;
        }
        let client = client.clone();
        running.spawn(async move { client.txn("write simulated hosts", &ops).await });
    }
    while let Some(written) = running.join_next().await {
        written??;
    }
    Ok(())
}
