//! The name server: at the service address in its own namespace, and on the host for whoever is on no
//! overlay network.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hickory_server::zone_handler::{Catalog, ZoneHandler as _};
use nix::net::if_::if_nametoindex;
use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::table::Names;
use super::transport::{self, Load};
use super::upstream::Upstream;
use super::zone::Zone;
use crate::control::agent::Agent;
use crate::control::error::AgentError;
use crate::host::service::{SERVICE_DEVICE, Service, Sockets};
use crate::store::backoff::Backoff;

/// Name of the threads that answer. A panic there, over what a container has sent, is the end of that question.
pub const THREAD: &str = "names";

/// How often it is looked whether the way to us is still there.
const LOOK: Duration = Duration::from_secs(5);

/// Names are this old at most: collecting them takes some milliseconds where there are many.
const AGE: Duration = Duration::from_millis(100);

#[derive(Debug, Error)]
enum NamesError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("start the name server")]
    Start(#[from] io::Error),
}

/// Serves until the task is aborted.
pub async fn run(agent: Arc<Agent>) {
    tokio::join!(
        again_and_again(&agent, "endpoints", || serve_endpoints(&agent)),
        again_and_again(&agent, "this host", || serve_host(&agent)),
    );
}

/// Starts a server whenever it has ended.
async fn again_and_again<F: Future<Output = Result<(), NamesError>>>(
    agent: &Agent,
    whom: &'static str,
    serve: impl Fn() -> F,
) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let since = Instant::now();
        match serve().await {
            Ok(()) => tracing::warn!("the name server of {whom} ended: starting it again"),
            Err(error) => {
                agent.note_names(whom, Some(format!("{:#}", anyhow::Error::from(error))));
            }
        }
        if since.elapsed() > LOOK {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

/// Until somebody removes the way to us, or the server fails.
async fn serve_endpoints(agent: &Arc<Agent>) -> Result<(), NamesError> {
    let upstream = Arc::new(Upstream::new(agent.config.resolv_conf.clone()));
    let zone = Zone::of_endpoints(cached(Arc::clone(agent)), upstream);
    let (service, sockets) = agent.open_service().await?;
    let serving = Serving::start(sockets, zone)?;
    agent.note_names("endpoints", None);
    let Service { ifindex, .. } = &service;
    while if_nametoindex(SERVICE_DEVICE) == Ok(*ifindex) && !serving.end.is_cancelled() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Where Docker is served: it tells all its containers of the address, also those on other networks.
async fn serve_host(agent: &Arc<Agent>) -> Result<(), NamesError> {
    let Some(sockets) = agent.open_service_on_host().await? else {
        return std::future::pending().await;
    };
    let upstream = Arc::new(Upstream::new(agent.config.resolv_conf.clone()));
    let serving = Serving::start(sockets, Zone::of_host(upstream))?;
    agent.note_names("this host", None);
    serving.end.cancelled().await;
    Ok(())
}

/// A running server. Dropping it ends it.
struct Serving {
    end: CancellationToken,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Serving {
    fn start(sockets: Sockets, zone: Zone) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serving = Self {
            end: CancellationToken::new(),
        };
        let end = serving.end.clone();
        thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || {
                // Also after a panic.
                let _ended = end.clone().drop_guard();
                if let Err(error) = runtime.block_on(serve(sockets, zone, &end)) {
                    tracing::error!("answer questions for names: {error}");
                }
            })?;
        Ok(serving)
    }
}

/// Until `end`.
async fn serve(sockets: Sockets, zone: Zone, end: &CancellationToken) -> io::Result<()> {
    let mut catalog = Catalog::new();
    catalog.upsert(zone.origin().clone(), vec![Arc::new(zone)]);
    let (catalog, load) = (Arc::new(catalog), Load::default());
    let udp = UdpSocket::from_std(sockets.udp)?;
    let tcp = TcpListener::from_std(sockets.tcp)?;
    tokio::select! {
        failed = transport::datagrams(udp, Arc::clone(&catalog), load.clone()) => failed,
        () = transport::connections(tcp, catalog, load) => Ok(()),
        () = end.cancelled() => Ok(()),
    }
}

/// The agent's names, collected when an interface asks and they may have changed.
fn cached(agent: Arc<Agent>) -> impl Fn(u32) -> Arc<Names> + Send + Sync {
    let known: Mutex<Option<(u64, Instant, Arc<Names>)>> = Mutex::default();
    move |ifindex| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let synced = *agent.synced().borrow();
        match &*known {
            // Somebody new is not to be sent away.
            Some((count, since, names))
                if *count == synced || (since.elapsed() < AGE && names.knows(ifindex)) =>
            {
                Arc::clone(names)
            }
            Some(_) | None => {
                let names = agent
                    .known(|askers, networks, endpoints| Names::of(askers, networks, endpoints));
                let names = Arc::new(names);
                *known = Some((synced, Instant::now(), Arc::clone(&names)));
                names
            }
        }
    }
}
