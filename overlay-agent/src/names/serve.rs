//! The name server: at the service address in its own namespace, and on the host for whoever is on no
//! overlay network.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hickory_server::Server;
use hickory_server::zone_handler::{Catalog, ZoneHandler as _};
use nix::net::if_::if_nametoindex;
use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::table::Names;
use super::upstream::Upstream;
use super::zone::Zone;
use crate::control::agent::Agent;
use crate::control::error::AgentError;
use crate::control::problem::Problem;
use crate::host::service::{SERVICE_DEVICE, Service, Sockets};
use crate::store::backoff::Backoff;

/// How often it is looked whether the way to us is still there.
const LOOK: Duration = Duration::from_secs(5);

/// Names are this old at most: collecting them takes some milliseconds where there are many.
const AGE: Duration = Duration::from_millis(100);

/// A connection without a question is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Answers that wait for one connection.
const BUFFER: usize = 32;

#[derive(Debug, Error)]
enum NamesError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("start the name server")]
    Start(#[from] io::Error),
}

/// Serves until the task is aborted.
pub async fn run(agent: Arc<Agent>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match start(&agent).await {
            Ok(serving) => {
                backoff.reset();
                agent.note_names(None);
                serving.until_gone().await;
                tracing::warn!("device {SERVICE_DEVICE} is gone: making it anew");
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                agent.note_names(Some(Problem::Names(error)));
            }
        }
        backoff.wait().await;
    }
}

/// A running server. Dropping it ends it.
struct Serving {
    service: Service,
    end: CancellationToken,
}

impl Serving {
    async fn until_gone(&self) {
        while if_nametoindex(SERVICE_DEVICE) == Ok(self.service.ifindex) && !self.end.is_cancelled()
        {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

async fn start(agent: &Arc<Agent>) -> Result<Serving, NamesError> {
    let upstream = Arc::new(Upstream::new(agent.config.resolv_conf.clone()));
    let (service, sockets) = agent.open_service().await?;
    let serving = Serving {
        service,
        end: CancellationToken::new(),
    };
    let zone = Zone::of_endpoints(cached(Arc::clone(agent)), Arc::clone(&upstream));
    let mut servers = vec![(sockets, zone)];
    match agent.open_service_on_host().await {
        Ok(sockets) => servers.extend(sockets.map(|sockets| (sockets, Zone::of_host(upstream)))),
        // For the endpoints it is there.
        Err(error) => tracing::warn!(
            "containers on other networks than overlays get no answer here: {:#}",
            anyhow::Error::from(error)
        ),
    }
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = serving.end.clone();
    thread::Builder::new()
        .name("names".to_owned())
        .spawn(move || {
            if let Err(error) = runtime.block_on(serve(servers, &end)) {
                tracing::error!("the name server ended: {error}");
            }
            end.cancel();
        })?;
    Ok(serving)
}

/// Until `end`.
async fn serve(servers: Vec<(Sockets, Zone)>, end: &CancellationToken) -> io::Result<()> {
    let mut running = Vec::new();
    for (sockets, zone) in servers {
        let mut catalog = Catalog::new();
        catalog.upsert(zone.origin().clone(), vec![Arc::new(zone)]);
        let mut server = Server::new(catalog);
        server.register_socket(UdpSocket::from_std(sockets.udp)?);
        server.register_listener(TcpListener::from_std(sockets.tcp)?, IDLE, BUFFER);
        running.push(server);
    }
    end.cancelled().await;
    Ok(())
}

/// The agent's names, collected when they are asked for and may have changed.
fn cached(agent: Arc<Agent>) -> impl Fn() -> Arc<Names> + Send + Sync {
    let known: Mutex<Option<(u64, Instant, Arc<Names>)>> = Mutex::default();
    move || {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let synced = *agent.synced().borrow();
        match &*known {
            Some((count, since, names)) if *count == synced || since.elapsed() < AGE => {
                Arc::clone(names)
            }
            Some(_) | None => {
                let names = Arc::new(agent.names());
                *known = Some((synced, Instant::now(), Arc::clone(&names)));
                names
            }
        }
    }
}
