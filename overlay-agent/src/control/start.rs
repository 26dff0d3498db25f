//! The agent from start to end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::agent::{Agent, State};
use super::desired::OVERHEAD;
use super::lock::{PinsLock, RunLock};
use super::released::{self, Released};
use super::snapshot::{self, Kept};
use super::{catalog, follow, liveness, node_id, queue, register};
use crate::api::server;
use crate::config::{Config, DockerConfig, StoreChoice};
use crate::datapath::{self, Datapath, Paths};
use crate::docker::{self, Docker};
use crate::host::nexthop::NextHopWatcher;
use crate::host::underlay::{self, Underlay, UnderlayWatcher};
use crate::host::{Netlink, Owner, checks};
use crate::ipam::Allocator;
use crate::metrics::{Metrics, SyncMetrics, http};
use crate::names;
use crate::store::embedded::EmbeddedStore;
use crate::store::schema::{Keys, Schema, decode, rules};
use crate::store::{Client, Registry, RegistryError, StoreConfig};

/// `sun_path` of unix(7), less the terminating zero.
const SOCKET_PATH_MAX: usize = 107;

/// How long the store is given to refuse us before anything is made.
pub(crate) const PROBE: Duration = Duration::from_secs(3);

/// Runs until `shutdown`. The data path stays.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    // What only looks comes first: a mistake in the settings leaves no file behind.
    checks::require(&config.bpffs_dir)?;
    let name = node_name(&config)?;
    let store = store_config(&config)?;
    let netlink = Netlink::open()?;
    let underlay = choose_underlay(&config, &netlink).await?;
    let _lock = RunLock::take(&config.run_dir)?;
    let pins = PinsLock::take(&config.bpffs_dir)?;
    let metrics_listener = http::listen(config.metrics_addr).await?;

    // Ended last: this host is still registered there until then.
    let store_end = CancellationToken::new();
    let _end_store = store_end.clone().drop_guard();
    let _store_file = if uses_embedded(&config) {
        Some(serve_embedded(&config, store_end.clone())?)
    } else {
        None
    };
    let client = Client::new(&store)?;
    probe(&client, &Keys::new(&store.prefix)).await?;
    let registry = Registry::new(client, Keys::new(&store.prefix));
    let node = node_id::load_or_create(&config.state_dir)?;

    let paths = Paths::new(&config.bpffs_dir);
    let datapath = Datapath::open(&datapath_settings(&config, underlay.clone()), paths).await?;
    let _pins = pins.with_directory(&config.bpffs_dir)?;
    let xdp = if datapath.xdp.is_some() {
        "tc+xdp"
    } else {
        "tc"
    };
    let tables = Datapath::maps_only(datapath.paths())?;
    let sync_metrics = SyncMetrics::new()?;
    let underlay_mtu = u16::try_from(underlay.link.mtu).unwrap_or(u16::MAX);
    let state = State {
        underlay_mtu,
        path_mtu: underlay_mtu,
        overhead: OVERHEAD,
        ..State::default()
    };
    let kept = (!uses_embedded(&config)).then(|| {
        let address = registry.client().address();
        Arc::new(Kept::new(&config.state_dir, address, &store.prefix, node))
    });
    let underlay_watcher = UnderlayWatcher::spawn(&underlay, !config.advertise.is_empty())?;
    let agent = Arc::new(Agent {
        hops: NextHopWatcher::spawn(underlay.vteps)?,
        owner: Owner::new(&config.bpffs_dir),
        ipam: Allocator::new(&registry),
        released: Released::load(config.state_dir.join("addresses.json")),
        config,
        node,
        name,
        underlay: underlay.link.name.clone(),
        vteps: watch::Sender::new(underlay.vteps),
        underlay_watcher,
        registry,
        netlink,
        datapath: tokio::sync::Mutex::new(datapath),
        operations: tokio::sync::Mutex::default(),
        metrics: sync_metrics.clone(),
        witness: Arc::default(),
        inbox: Arc::default(),
        kept: kept.clone(),
        registered: watch::Sender::new(false),
        buried: Notify::new(),
        unlocked: Notify::new(),
        synced: watch::Sender::new(0),
        state: Mutex::new(state),
    });

    agent.load_queue().await;
    let read = {
        let agent = Arc::clone(&agent);
        move || agent.reading(&tables)
    };
    let served = http::Served {
        metrics: Arc::new(Metrics::new(&kernel(), xdp, &sync_metrics, read)?),
        ready: ready(&agent),
    };
    let stopped = || shutdown.clone().cancelled_owned();
    let metrics = tokio::spawn(http::serve(metrics_listener, served, stopped()));
    let docker = &agent.config.docker;
    let serve = || serve_docker(&agent, docker, &shutdown);
    let _docker_file = docker.serve.then(serve).transpose()?;
    let names = tokio::spawn(names::run(Arc::clone(&agent)));
    let (api, _api_file) = listen(&agent.config.agent_socket())?;
    let api = tokio::spawn(server::serve(api, Arc::clone(&agent), stopped()));
    let (prepared, is_prepared) = watch::channel(false);
    let following = tokio::spawn(follow::run(Arc::clone(&agent), is_prepared));
    let watching = tokio::spawn(liveness::run(Arc::clone(&agent)));
    let cooling = {
        let agent = Arc::clone(&agent);
        tokio::spawn(async move { released::run(&agent).await })
    };
    let keeping = kept
        .clone()
        .map(|kept| tokio::spawn(snapshot::run(Arc::clone(&agent), kept)));
    let telling = tokio::spawn(queue::run(Arc::clone(&agent)));
    let registered = tokio::spawn(register::run(
        Arc::clone(&agent),
        prepared,
        shutdown.clone(),
    ));
    let in_catalog = tokio::spawn(catalog::run(Arc::clone(&agent), shutdown.clone()));
    info!(
        node = agent.name,
        id = %node,
        store = agent.registry.client().address(),
        "agent is running"
    );

    shutdown.cancelled().await;
    info!("stopping: the data path stays as it is");
    following.abort();
    watching.abort();
    telling.abort();
    agent.close_service().await;
    names.abort();
    cooling.abort();
    // Commands that are being carried out are finished.
    drop(agent.operations.lock().await);
    registered.await.context("deregister")?;
    in_catalog.await.context("leave the catalog")?;
    if let Some((keeping, kept)) = keeping.zip(kept) {
        keeping.abort();
        if agent.is_synced() {
            agent.save(&kept).await;
        }
    }
    // Clients that keep their connections open would hold the end up.
    metrics.abort();
    api.abort();
    Ok(())
}

/// The drivers that Docker asks for.
fn serve_docker(
    agent: &Arc<Agent>,
    config: &DockerConfig,
    shutdown: &CancellationToken,
) -> Result<docker::SocketFile> {
    let (plugin, file) = docker::listen(&config.plugins)?;
    let served = Docker::new(Arc::clone(agent), config.socket.clone());
    agent.state().docker = Some(served.problems());
    tokio::spawn(docker::run(served, plugin, shutdown.clone()));
    Ok(file)
}

/// What the settings and the chosen underlay say of the data path.
pub fn datapath_settings(config: &Config, underlay: Underlay) -> datapath::Settings {
    datapath::Settings {
        underlay,
        port: config.port,
        xdp: config.xdp,
        decap: config.decap,
        log_drops: config.log_drops,
    }
}

pub async fn choose_underlay(config: &Config, netlink: &Netlink) -> Result<Underlay> {
    let device = config.underlay.as_deref();
    Ok(underlay::choose(netlink, &config.advertise, device).await?)
}

fn node_name(config: &Config) -> Result<String> {
    let name = match &config.node_name {
        Some(name) => name.clone(),
        None => nix::sys::utsname::uname()
            .context("read the host name")?
            .nodename()
            .to_string_lossy()
            .into_owned(),
    };
    rules::check_name(&name).context("choose this host's name with --node-name")?;
    Ok(name)
}

fn kernel() -> String {
    let uname = nix::sys::utsname::uname();
    uname.map_or_else(
        |_| String::new(),
        |uname| uname.release().to_string_lossy().into_owned(),
    )
}

pub(crate) fn uses_embedded(config: &Config) -> bool {
    match config.store {
        StoreChoice::Embedded => true,
        StoreChoice::Url(_) => false,
        StoreChoice::Unset => consul_variable("CONSUL_HTTP_ADDR").is_none(),
    }
}

fn consul_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(crate) fn store_config(config: &Config) -> Result<StoreConfig> {
    let store = if uses_embedded(config) {
        let socket = format!(
            "unix://{}",
            std::path::absolute(config.store_socket())?.display()
        );
        // What is set for a Consul is not for our own store.
        StoreConfig::from_parts(Some(&socket), |_| None)?
    } else {
        let flag = match &config.store {
            StoreChoice::Url(url) => Some(url.as_str()),
            StoreChoice::Embedded | StoreChoice::Unset => None,
        };
        StoreConfig::from_parts(flag, consul_variable)?
    };
    Ok(match &config.store_prefix {
        Some(prefix) => store.with_prefix(prefix)?,
        None => store,
    })
}

/// The store in this process, when none is configured.
fn serve_embedded(config: &Config, end: CancellationToken) -> Result<SocketFile> {
    let store = EmbeddedStore::open(&config.store_file())?;
    let (listener, file) = listen(&config.store_socket())?;
    info!(file = %config.store_file().display(), "using the embedded store");
    tokio::spawn(async move {
        if let Err(error) = store.serve_unix(listener, end.cancelled_owned()).await {
            tracing::error!("the embedded store ended: {:#}", anyhow::Error::from(error));
        }
    });
    Ok(file)
}

/// A store that refuses us, or is a later version's, is an error of the settings, and is told before anything
/// is made. One that does not answer is waited for, later.
async fn probe(client: &Client, keys: &Keys) -> Result<()> {
    let key = keys.schema();
    let answer = tokio::time::timeout(PROBE, client.get(&key)).await;
    let error = match answer {
        Ok(Ok(answer)) => {
            // One that cannot be read is reported by whoever prepares the store.
            let layout = answer.value.and_then(|pair| decode::<Schema>(&pair).ok());
            return match layout.filter(Schema::is_newer) {
                Some(Schema { version: found }) => Err(RegistryError::SchemaVersion {
                    key,
                    found,
                    known: Schema::CURRENT.version,
                }
                .into()),
                None => Ok(()),
            };
        }
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let Some(error) = error.filter(|error| !error.is_outage()) else {
        tracing::warn!(
            "waiting for the store at {}: the data path keeps its last state",
            client.address()
        );
        return Ok(());
    };
    Err(error.into())
}

/// Follows whether the first sync is done.
fn ready(agent: &Arc<Agent>) -> Arc<AtomicBool> {
    let ready = Arc::new(AtomicBool::new(false));
    let (mut synced, set) = (agent.synced.subscribe(), Arc::clone(&ready));
    tokio::spawn(async move {
        if synced.wait_for(|count| *count > 0).await.is_ok() {
            set.store(true, Ordering::Relaxed);
        }
    });
    ready
}

/// The file of a socket, removed with it.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A unix socket for root alone, in the place of one that an earlier run has left. The run lock
/// is held: nobody serves that one.
fn listen(path: &Path) -> Result<(UnixListener, SocketFile)> {
    let context = || format!("listen on {}", path.display());
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        bail!(
            "{}: the path is too long for a socket: choose a shorter --run-dir",
            context()
        );
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(context)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(context)?;
    Ok((listener, file))
}
