//! Which networks are followed: those that this host has endpoints on, or is about to have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use overlay_common::net::Vni;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::agent::{Agent, ECHO};
use super::view::Arrived;
use crate::store::schema::NodeId;
use crate::store::{Change, MembersWatch};

/// How long a network is followed that nobody is interested in any more: the next container comes soon.
const LINGER: Duration = Duration::from_secs(60);

/// What the watches of networks have found and nobody has taken yet, by network and node. Bounded by what there
/// is: of two changes of one endpoint the later one stays. A network without nodes has been compared.
pub(super) type Pending = BTreeMap<Vni, BTreeMap<NodeId, Arrived>>;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pending: Mutex<Pending>,
    arrived: Notify,
    /// Networks that somebody is about to have endpoints on, and how many.
    wanted: Mutex<BTreeMap<Vni, usize>>,
    changed: Notify,
}

impl Inbox {
    fn put(&self, net: Vni, changes: Vec<Change>) {
        let mut pending = lock(&self.pending);
        let nodes = pending.entry(net).or_default();
        for change in changes {
            match change {
                Change::Node(members) => {
                    let node = members.node;
                    let arrived = Arrived {
                        whole: Some(members),
                        ..Arrived::default()
                    };
                    nodes.insert(node, arrived);
                }
                Change::One(path, record) => {
                    let arrived = nodes.entry(path.node).or_default();
                    arrived.ones.insert(path.id, record);
                }
            }
        }
        drop(pending);
        self.arrived.notify_one();
    }

    /// Returns when there is something to be taken.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(super) fn take(&self) -> Pending {
        std::mem::take(&mut *lock(&self.pending))
    }

    /// Returns when another network is wanted.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn wanted(&self) -> BTreeSet<Vni> {
        lock(&self.wanted).keys().copied().collect()
    }

    fn forget(&self, net: Vni) {
        lock(&self.pending).remove(&net);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A network stays followed for as long as this lives.
#[derive(Debug)]
pub(crate) struct Wanted {
    inbox: Arc<Inbox>,
    net: Vni,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut wanted = lock(&self.inbox.wanted);
        if let Some(count) = wanted.get_mut(&self.net) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(&self.net);
            }
        }
        drop(wanted);
        self.inbox.changed.notify_one();
    }
}

impl Agent {
    /// Follows a network from now on, and waits until its endpoints are known. Not for ever: what is not
    /// known then comes later.
    pub(crate) async fn know(&self, net: Vni) -> Wanted {
        *lock(&self.inbox.wanted).entry(net).or_default() += 1;
        self.inbox.changed.notify_one();
        let wanted = Wanted {
            inbox: Arc::clone(&self.inbox),
            net,
        };
        let mut synced = self.synced();
        let wait = async {
            while !self.state().view.knows(net) {
                if synced.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(ECHO, wait).await.is_err() {
            tracing::warn!(vni = %net, "the network's endpoints are not known yet");
        }
        wanted
    }

    /// The networks to be followed.
    pub(super) fn interest(&self) -> BTreeSet<Vni> {
        let state = self.state();
        let own = state.view.endpoints.keys();
        let own = own
            .filter(|path| path.node == self.node)
            .map(|path| path.net);
        let locals = state.locals.values().filter(|local| !local.leaving);
        let local = locals.map(|local| local.vni);
        // Those of an earlier run, which are no locals yet.
        let queued = state.queued_networks();
        let all = own.chain(local).chain(queued);
        all.chain(self.inbox.wanted()).collect()
    }
}

/// The running watches. Dropping them stops the queries.
#[derive(Debug)]
pub(super) struct Watches {
    running: BTreeMap<Vni, Followed>,
    /// Whether the store may be asked.
    prepared: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Followed {
    task: JoinHandle<()>,
    trouble: watch::Receiver<Option<String>>,
    /// The last time that somebody was interested.
    wanted: Instant,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watches {
    pub(super) fn new(prepared: watch::Receiver<bool>) -> Self {
        Self {
            running: BTreeMap::new(),
            prepared,
        }
    }

    /// Follows these networks, and no others for long. Returns whether they were others before.
    pub(super) fn set(&mut self, agent: &Agent, nets: &BTreeSet<Vni>) -> bool {
        let mut changed = false;
        self.running.retain(|net, followed| {
            if nets.contains(net) {
                followed.wanted = Instant::now();
            }
            let is_there = || agent.state().view.network_of(*net).is_some();
            let stays = nets.contains(net) || (followed.wanted.elapsed() < LINGER && is_there());
            if !stays {
                changed = true;
                agent.inbox.forget(*net);
                agent.state().view.forget(*net, agent.node);
            }
            stays
        });
        for net in nets {
            self.running.entry(*net).or_insert_with(|| {
                changed = true;
                follow(agent, *net, self.prepared.clone())
            });
        }
        changed
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = watch::Receiver<Option<String>>> {
        self.running
            .values()
            .map(|followed| followed.trouble.clone())
    }
}

fn follow(agent: &Agent, net: Vni, mut prepared: watch::Receiver<bool>) -> Followed {
    let registry = &agent.registry;
    let witness = Arc::clone(&agent.witness);
    let watch = MembersWatch::new(registry.client().clone(), registry.keys(), witness, net);
    // Of a snapshot: those that the store has no more are to be found out.
    let mut watch = watch.with_known(agent.state().view.nodes_on(net));
    let (trouble, inbox) = (watch.trouble(), Arc::clone(&agent.inbox));
    let task = tokio::spawn(async move {
        if prepared.wait_for(|is| *is).await.is_err() {
            return;
        }
        loop {
            let changes = watch.next().await;
            inbox.put(net, changes);
        }
    });
    Followed {
        task,
        trouble,
        wanted: Instant::now(),
    }
}
