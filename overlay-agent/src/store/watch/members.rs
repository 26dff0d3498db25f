//! Following the endpoints of one network, by its index.
//!
//! A recursive query returns its whole prefix on every change. So each change also writes one of 32 small
//! keys, which are watched, and which say where it was: one transaction then reads what has changed in that
//! bucket, and the endpoint itself. Only a node of which more than that has changed is read whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use overlay_common::net::Vni;
use tokio::sync::watch;

use super::{Judgement, SETTLE, WAIT, Witness, judge};
use crate::store::backoff::Backoff;
use crate::store::client::{Answer, Client, KvPair, TxnOp};
use crate::store::error::{StoreError, in_full};
use crate::store::schema::{
    self, BUCKETS, BadKey, Endpoint, EndpointPath, EndpointRecord, Hint, Keys, NodeId, Revision,
    bucket,
};

/// Nodes that are read in one transaction; two operations each.
const TOGETHER: usize = 8;
/// Transactions at a time.
const SIDE_BY_SIDE: usize = 4;

/// What has changed on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What a node has there.
    Node(NodeMembers),
    /// One endpoint; `None` when it is gone.
    One(EndpointPath, Option<EndpointRecord>),
}

/// The endpoints of a node on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMembers {
    pub node: NodeId,
    pub endpoints: Vec<Endpoint>,
    pub bad: Vec<BadKey>,
    /// Whether they are as many as the node says: if not, what is missing may be hidden and means nothing.
    pub complete: bool,
}

/// What was read, and what is known by that. Taken over as a whole: after a failure half-way nothing is.
#[derive(Debug, Default)]
struct Read {
    changes: Vec<Change>,
    known: Vec<(NodeId, Option<Revision>)>,
}

/// Follows one network; idle, it is one blocking query.
#[derive(Debug)]
pub struct MembersWatch {
    client: Client,
    keys: Keys,
    witness: Arc<Witness>,
    net: Vni,
    settle: Duration,
    /// What to block on; `None` compares everything.
    index: Option<u64>,
    /// `ModifyIndex` of the keys that are watched.
    buckets: BTreeMap<String, u64>,
    known: BTreeMap<NodeId, Revision>,
    changed: bool,
    early: u32,
    /// The comparison before was with an older state than what is known.
    doubted: bool,
    backoff: Backoff,
    /// In a row.
    failures: u32,
    trouble: watch::Sender<Option<String>>,
}

impl MembersWatch {
    pub fn new(client: Client, keys: &Keys, witness: Arc<Witness>, net: Vni) -> Self {
        Self {
            client,
            keys: keys.clone(),
            witness,
            net,
            settle: SETTLE,
            index: None,
            buckets: BTreeMap::new(),
            known: BTreeMap::new(),
            changed: false,
            early: 0,
            doubted: false,
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(8)),
            failures: 0,
            trouble: watch::Sender::new(None),
        }
    }

    /// Nodes that may have endpoints there by what is known already: what they have is to be told anew.
    #[must_use]
    pub fn with_known(mut self, nodes: BTreeSet<NodeId>) -> Self {
        let never = nodes.into_iter().map(|node| (node, Revision::default()));
        self.known.extend(never);
        self
    }

    /// Why the network cannot be followed, when waiting does not mend it; `None` during an outage.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Waits for what has changed since the last time; the first time, and whenever changes may have been
    /// missed, for a comparison with everything that is there, which may have found nothing. Goes on trying
    /// while the store is unreachable.
    pub async fn next(&mut self) -> Vec<Change> {
        loop {
            match self.poll().await {
                Ok(Some(changes)) => return changes,
                Ok(None) => {}
                Err(error) => self.failed(&error).await,
            }
        }
    }

    async fn poll(&mut self) -> Result<Option<Vec<Change>>, StoreError> {
        if self.changed {
            tokio::time::sleep(self.settle).await;
            self.changed = false;
        }
        let Some(index) = self.index else {
            let (read, hints) = self.compare().await?;
            self.buckets.clear();
            self.index = Some(hints.index);
            return Ok(Some(self.take(read, &hints.value)));
        };
        let asked = Instant::now();
        let hints = self.keys.hints_of(self.net);
        let answer = self.client.list_blocking(&hints, index, WAIT).await?;
        if judge(Some(index), answer.index, asked.elapsed() < WAIT) == Judgement::ReadAgain {
            self.index = None;
            self.early += 1;
            // A store that always answers so must not be asked in a tight loop.
            if self.early > 2 {
                self.backoff.wait().await;
            }
            return Ok(None);
        }
        self.early = 0;
        self.require_whole(&answer.value).await?;
        let changed: Vec<_> = answer
            .value
            .iter()
            .filter(|pair| self.buckets.get(&pair.key) != Some(&pair.modify_index))
            .collect();
        let read = self.read(&changed).await?;
        self.index = Some(answer.index);
        let changes = self.take(read, &answer.value);
        self.changed = !changes.is_empty();
        Ok(self.changed.then_some(changes))
    }

    fn take(&mut self, read: Read, hints: &[KvPair]) -> Vec<Change> {
        for (node, revision) in read.known {
            match revision {
                Some(revision) => self.known.insert(node, revision),
                None => self.known.remove(&node),
            };
        }
        let hints = hints
            .iter()
            .map(|pair| (pair.key.clone(), pair.modify_index));
        self.buckets.extend(hints);
        self.doubted = false;
        self.recovered();
        read.changes
    }

    /// All revisions against those that are known.
    async fn compare(&mut self) -> Result<(Read, Answer<Vec<KvPair>>), StoreError> {
        let hints = self.client.list(&self.keys.hints_of(self.net)).await?;
        self.require_whole(&hints.value).await?;
        let folder = self.keys.revisions_of(self.net);
        let listed = self.client.list(&folder).await?.value;
        let now = self.revisions(&listed);
        // Of a server that is behind, or a store that was set back, which says the same again.
        let mut known = self.known.iter().filter(|(_, known)| known.rev > 0);
        let is_old = known.any(|(node, known)| is_before(now.get(node), known.rev));
        if is_old && !std::mem::replace(&mut self.doubted, true) {
            return Err(StoreError::Behind { prefix: folder });
        }
        let missing: Vec<_> = self
            .known
            .keys()
            .filter(|node| !now.contains_key(node))
            .collect();
        if !missing.is_empty() {
            self.witness
                .check(&self.client, &self.keys, &folder)
                .await?;
        }
        let nodes = now
            .iter()
            .filter(|(node, revision)| self.known.get(node) != Some(revision));
        let nodes = nodes.map(|(node, revision)| (*node, revision.rev));
        let nodes = nodes.chain(missing.into_iter().map(|node| (*node, 0)));
        Ok((self.read_nodes(nodes.collect()).await?, hints))
    }

    /// What has changed in these buckets.
    async fn read(&self, changed: &[&KvPair]) -> Result<Read, StoreError> {
        let mut ops = Vec::new();
        let mut hinted = BTreeMap::new();
        for pair in changed {
            let Some(number) = self.keys.bucket_of(self.net, &pair.key) else {
                continue;
            };
            ops.push(TxnOp::get_tree(self.keys.revisions_in(self.net, number)));
            if let Some(hint) = Hint::decode(&pair.value).filter(|hint| bucket(hint.node) == number)
            {
                let path = EndpointPath {
                    node: hint.node,
                    net: self.net,
                    id: hint.endpoint,
                };
                ops.push(TxnOp::get_tree(self.keys.endpoint(&path)));
                hinted.insert(hint.node, (path, hint.rev));
            }
        }
        if ops.is_empty() {
            return Ok(Read::default());
        }
        let found = self
            .client
            .txn("read what has changed on a network", &ops)
            .await?;
        let now = self.revisions(&found);
        // Hint and revision are written together.
        let mut hints = hinted.iter();
        if hints.any(|(node, (_, rev))| is_before(now.get(node), *rev)) {
            let prefix = self.keys.revisions_of(self.net);
            return Err(StoreError::Behind { prefix });
        }
        let mut read = Read::default();
        let mut whole = BTreeMap::new();
        for (node, revision) in &now {
            let before = self.known.get(node).copied().unwrap_or_default();
            if *revision == before {
                continue;
            }
            let one = hinted.get(node).and_then(|(path, rev)| {
                let next = revision.rev == *rev && revision.rev == before.rev + 1;
                self.one(path, &found, before, *revision).filter(|_| next)
            });
            match one {
                Some(change) => {
                    read.known.push((*node, Some(*revision)));
                    read.changes.push(change);
                }
                None => {
                    whole.insert(*node, revision.rev);
                }
            }
        }
        let buckets: BTreeSet<u64> = changed
            .iter()
            .filter_map(|pair| self.keys.bucket_of(self.net, &pair.key))
            .collect();
        let gone = self
            .known
            .keys()
            .filter(|node| buckets.contains(&bucket(**node)) && !now.contains_key(node));
        let gone: Vec<NodeId> = gone.copied().collect();
        if !gone.is_empty() {
            let folder = self.keys.revisions_of(self.net);
            self.witness
                .check(&self.client, &self.keys, &folder)
                .await?;
            whole.extend(gone.into_iter().map(|node| (node, 0)));
        }
        let nodes = self.read_nodes(whole).await?;
        read.changes.extend(nodes.changes);
        read.known.extend(nodes.known);
        Ok(read)
    }

    /// The endpoint that a hint names, if it explains what the node's revision says.
    fn one(
        &self,
        path: &EndpointPath,
        found: &[KvPair],
        before: Revision,
        now: Revision,
    ) -> Option<Change> {
        let key = self.keys.endpoint(path);
        let pair = found.iter().find(|pair| pair.key == key);
        let Some(pair) = pair else {
            let removed = now.endpoints + 1 == before.endpoints;
            return removed.then(|| Change::One(path.clone(), None));
        };
        let added = now.endpoints == before.endpoints + 1 || now.endpoints == before.endpoints;
        let mut listing = schema::endpoints(&self.keys, std::slice::from_ref(pair));
        let endpoint = listing.items.pop().filter(|_| added)?;
        Some(Change::One(endpoint.path, Some(endpoint.record)))
    }

    /// Whole nodes, each with the revision of the same moment, which is to be this one or a later.
    async fn read_nodes(&self, wanted: BTreeMap<NodeId, u64>) -> Result<Read, StoreError> {
        let nodes: Vec<NodeId> = wanted.keys().copied().collect();
        let reads: Vec<_> = nodes
            .chunks(TOGETHER)
            .map(|nodes| {
                let of = |node: &NodeId| {
                    let folder = self.keys.endpoints_on(*node, self.net);
                    [self.keys.revision(self.net, *node), folder]
                };
                let ops: Vec<_> = nodes.iter().flat_map(of).map(TxnOp::get_tree).collect();
                read_together(self.client.clone(), nodes.to_vec(), ops)
            })
            .collect();
        let mut answers = stream::iter(reads).buffered(SIDE_BY_SIDE);
        let mut read = Read::default();
        // Each is made endpoints of when it comes: all together, as the store has them, would be most of what the
        // agent ever takes.
        while let Some((nodes, found)) = answers.try_next().await? {
            let revisions = self.revisions(&found);
            let endpoints = found.into_iter().filter(|pair| !pair.key.ends_with('/'));
            let endpoints: Vec<_> = endpoints
                .filter(|pair| pair.key.starts_with(&self.keys.endpoints()))
                .collect();
            let mut at = 0;
            // In the order of the keys, which is that of the nodes.
            for node in &nodes {
                let folder = self.keys.endpoints_on(*node, self.net);
                let len = endpoints[at..]
                    .iter()
                    .take_while(|pair| pair.key.starts_with(&folder))
                    .count();
                let listing = schema::endpoints(&self.keys, &endpoints[at..at + len]);
                at += len;
                let revision = revisions.get(node).copied();
                if is_before(
                    revision.as_ref(),
                    wanted.get(node).copied().unwrap_or_default(),
                ) {
                    return Err(StoreError::Behind { prefix: folder });
                }
                read.changes.push(Change::Node(NodeMembers {
                    node: *node,
                    complete: len as u64 >= revision.map_or(0, |revision| revision.endpoints),
                    endpoints: listing.items,
                    bad: listing.bad,
                }));
                read.known.push((*node, revision));
            }
        }
        Ok(read)
    }

    /// The revisions among some keys. One that cannot be read is of no node: its endpoints stay what they were.
    fn revisions(&self, pairs: &[KvPair]) -> BTreeMap<NodeId, Revision> {
        let of = |pair: &KvPair| {
            let node = self.keys.parse_revision(self.net, &pair.key)?;
            Some((node, schema::decode(pair).ok()?))
        };
        pairs.iter().filter_map(of).collect()
    }

    /// All keys that are watched have to be there: who may not read them is not told so.
    async fn require_whole(&self, hints: &[KvPair]) -> Result<(), StoreError> {
        if hints.len() as u64 >= BUCKETS {
            return Ok(());
        }
        let folder = self.keys.hints_of(self.net);
        self.witness
            .check(&self.client, &self.keys, &folder)
            .await?;
        let there = |number: &u64| {
            let key = self.keys.hint(self.net, *number);
            hints.iter().any(|pair| pair.key == key)
        };
        let missing = (0..BUCKETS)
            .find(|number| !there(number))
            .unwrap_or_default();
        let error = StoreError::Incomplete {
            prefix: folder,
            missing: self.keys.hint(self.net, missing),
        };
        Err(error)
    }

    async fn failed(&mut self, error: &StoreError) {
        let trouble = (!error.is_outage()).then(|| in_full(error));
        self.trouble.send_replace(trouble);
        self.failures += 1;
        // The first time it may be that the network has just been removed: whoever follows it learns of that in
        // the next moment.
        if self.failures == 2 {
            tracing::warn!(vni = %self.net, error = error as &dyn std::error::Error,
                "cannot follow the network's endpoints; the last state stays");
        }
        // What happened meanwhile is only seen by comparing.
        self.index = None;
        self.backoff.wait().await;
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        self.trouble.send_replace(None);
        if std::mem::take(&mut self.failures) > 1 {
            tracing::info!(vni = %self.net, "following the network's endpoints again");
        }
    }
}

/// Whether a revision is an earlier one than this.
fn is_before(revision: Option<&Revision>, rev: u64) -> bool {
    revision.map_or(0, |revision| revision.rev) < rev
}

async fn read_together(
    client: Client,
    nodes: Vec<NodeId>,
    ops: Vec<TxnOp>,
) -> Result<(Vec<NodeId>, Vec<KvPair>), StoreError> {
    let found = client.txn("read a network's endpoints", &ops).await?;
    Ok((nodes, found))
}
