//! Serves Docker: a network and an IPAM driver, and its networks kept the same as the store's.
//!
//! - [`plugin`] is the socket that Docker's daemon asks, [`driver`] and [`ipam`] answer.
//! - [`mirror`] decides what makes Docker's networks and the store's the same, [`keep`] does it.
//! - [`members`] keeps the endpoints' names, and sweeps what Docker will never release.

mod aliases;
mod bind;
mod container;
mod driver;
mod engine;
mod error;
mod ipam;
mod keep;
mod making;
mod members;
mod mirror;
mod options;
mod plugin;
mod pools;
mod sandbox;
mod socket;
mod table;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use overlay_common::net::Vni;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::control::agent::Agent;
use crate::control::problem::Problem;
use crate::store::schema::Network;
use aliases::Asked;
pub(crate) use container::container;
use engine::Engine;
pub(crate) use error::DockerError;
use making::Making;
use sandbox::Joined;
pub use socket::{SocketFile, listen, plugin_socket};
use table::{Entry, Table};

/// What the drivers are called: `docker network create -d overlay-ebpf --ipam-driver overlay-ebpf`.
pub const DRIVER: &str = "overlay-ebpf";

/// What our pools are called, so that others' are known.
const ADDRESS_SPACE: &str = "overlay";

/// What the parts share.
#[derive(Debug)]
pub struct Docker {
    agent: Arc<Agent>,
    /// Of Docker's API.
    socket: PathBuf,
    table: Table<Entry>,
    /// Endpoints that are in a container.
    joined: Table<Joined>,
    /// Whose aliases are known.
    asked: Asked,
    /// What is being made.
    making: Mutex<Making>,
    /// When the first and the last call failed since Docker was compared with the store.
    unreleased: Mutex<Option<(Instant, Instant)>>,
    /// Something has to be done.
    wake: Notify,
    /// Whether the store has been waited for in vain: at its start Docker asks for each endpoint, one after
    /// the other.
    in_vain: AtomicBool,
    /// Networks that were removed here and are in use elsewhere, since when.
    kept: Mutex<Vec<(Problem, Instant)>>,
    problems: watch::Sender<Vec<Problem>>,
}

impl Docker {
    pub fn new(agent: Arc<Agent>, socket: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            table: Table::load(agent.config.state_dir.join("docker.json")),
            joined: Table::load(agent.config.state_dir.join("docker-joined.json")),
            asked: Asked::default(),
            agent,
            socket,
            making: Mutex::default(),
            unreleased: Mutex::default(),
            in_vain: AtomicBool::new(false),
            kept: Mutex::default(),
            wake: Notify::new(),
            problems: watch::Sender::default(),
        })
    }

    /// What is wrong between Docker and the store.
    pub fn problems(&self) -> watch::Receiver<Vec<Problem>> {
        self.problems.subscribe()
    }

    fn wake(&self) {
        self.wake.notify_one();
    }

    /// Docker asks once to release something, and takes no failure to heart: what is left is found by
    /// comparing, later.
    fn failed(&self) {
        let now = Instant::now();
        let mut unreleased = lock(&self.unreleased);
        *unreleased = Some((unreleased.map_or(now, |(first, _)| first), now));
        drop(unreleased);
        self.wake();
    }

    fn making(&self) -> MutexGuard<'_, Making> {
        lock(&self.making)
    }

    /// A network that users of other hosts need was removed here: `status` tells who they are for a while.
    fn keep(&self, problem: Problem) {
        lock(&self.kept).push((problem, Instant::now()));
        self.wake();
    }

    fn network_named(&self, name: &str) -> Option<Network> {
        self.agent.network_where(|other, _| other == name)
    }

    fn network_numbered(&self, vni: Vni) -> Option<Network> {
        self.agent.network_where(|_, record| record.vni == vni)
    }

    /// Of the network that was made in this host's Docker with a subnet: one, for such do not overlap.
    fn made_with(&self, subnet: IpNet) -> Option<Entry> {
        let mut entries = self.table.all().into_values();
        entries.find(|entry| !entry.twin && entry.subnets.contains(&subnet))
    }

    /// Whether a subnet is of a network that is being made, so that the store knows nothing of it.
    fn is_fresh(&self, subnet: IpNet) -> bool {
        self.made_with(subnet).is_none() && self.making().is_asked(subnet)
    }

    fn network_with(&self, vni: Option<Vni>, subnet: IpNet) -> Option<Network> {
        let vni = vni.or_else(|| Some(self.made_with(subnet)?.vni))?;
        self.network_numbered(vni)
            .filter(|network| network.record.subnets.contains(&subnet))
    }

    /// Waits for a network that is being made. Not for long: somebody waits for the answer.
    async fn once_there(
        &self,
        there: impl Fn() -> Option<Network>,
    ) -> Result<Network, DockerError> {
        if self.agent.is_synced() {
            self.in_vain.store(false, Ordering::Relaxed);
        } else if self.in_vain.load(Ordering::Relaxed) {
            self.agent.require_synced()?;
        }
        let (mut known, mut synced) = (self.table.subscribe(), self.agent.synced());
        let wait = async {
            loop {
                known.mark_unchanged();
                synced.mark_unchanged();
                if let Some(network) = there() {
                    return network;
                }
                tokio::select! {
                    Ok(()) = known.changed() => {}
                    Ok(()) = synced.changed() => {}
                    else => std::future::pending().await,
                }
            }
        };
        if let Ok(network) = tokio::time::timeout(ipam::PENDING, wait).await {
            return Ok(network);
        }
        let known = self.agent.require_synced();
        self.in_vain.store(known.is_err(), Ordering::Relaxed);
        known?;
        Err(DockerError::NoNetwork)
    }
}

/// What answers at the socket of Docker's API.
pub(crate) async fn version(socket: &Path) -> anyhow::Result<String> {
    let engine = Engine::connect(socket).await?;
    Ok(engine.version().await?)
}

/// A panic ends the process; until then what is inside is as good as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until `shutdown`.
pub async fn run(docker: Arc<Docker>, plugin: UnixListener, shutdown: CancellationToken) {
    let end = shutdown.clone().cancelled_owned();
    let serving = tokio::spawn(plugin::serve(plugin, Arc::clone(&docker), end));
    tokio::select! {
        () = keep::run(&docker) => {}
        () = shutdown.cancelled() => {}
    }
    serving.abort();
}
