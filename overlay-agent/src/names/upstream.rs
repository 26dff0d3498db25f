//! The name servers that this host itself asks, one after the other as its resolver does.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, RecordType};
use hickory_server::zone_handler::{AuthLookup, LookupError};
use tokio::time::{Instant, timeout_at};

use crate::host::service;

/// Docker's resolver waits four seconds for us.
const PATIENCE: Duration = Duration::from_millis(3500);

/// How long one server is waited for where there is another.
const EACH: Duration = Duration::from_millis(1200);

/// Answers that are kept of each server.
const CACHED: u64 = 256;

/// Asks them; reads its file again when that has changed.
pub(super) struct Upstream {
    file: PathBuf,
    current: Mutex<Option<Read>>,
}

#[derive(Clone)]
struct Read {
    modified: SystemTime,
    /// In the order of the file.
    servers: Arc<[TokioResolver]>,
}

impl Upstream {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file,
            current: Mutex::default(),
        }
    }

    /// That a server knows nobody of the name is an answer; of one that fails the next is asked.
    pub(super) async fn lookup(
        &self,
        name: Name,
        kind: RecordType,
    ) -> Result<AuthLookup, LookupError> {
        let last = Instant::now() + PATIENCE;
        let mut failed = LookupError::from(ResponseCode::ServFail);
        let servers = self.servers();
        for (server, left) in servers.iter().zip((0..servers.len()).rev()) {
            let until = if left == 0 {
                last
            } else {
                last.min(Instant::now() + EACH)
            };
            match timeout_at(until, server.lookup(name.clone(), kind)).await {
                Ok(Ok(found)) => return Ok(found.into()),
                Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => {
                    return Err(error.into());
                }
                Ok(Err(error)) => failed = error.into(),
                Err(_) => {}
            }
        }
        Err(failed)
    }

    fn servers(&self) -> Arc<[TokioResolver]> {
        let modified = fs::metadata(&self.file).and_then(|file| file.modified());
        let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(read) if read.modified == modified => Arc::clone(&read.servers),
            Some(_) | None => {
                let servers = self.read().unwrap_or_else(|why| {
                    tracing::warn!(
                        "{}: {why}: names out there are not found",
                        self.file.display()
                    );
                    Arc::default()
                });
                let read = Read { modified, servers };
                Arc::clone(&current.insert(read).servers)
            }
        }
    }

    fn read(&self) -> Result<Arc<[TokioResolver]>, String> {
        let content = fs::read(&self.file).map_err(|error| error.to_string())?;
        let (config, options) = parse_resolv_conf(content).map_err(|error| error.to_string())?;
        let servers = config.name_servers().iter();
        // Ourselves: a host may ask like its containers.
        let others = servers.filter(|server| server.ip != IpAddr::from(service::ADDRESS));
        let resolvers = others.map(|server| resolver(server, &options));
        let resolvers: Arc<[_]> = resolvers.collect::<Result<_, _>>()?;
        if resolvers.is_empty() {
            return Err("it names no server".to_owned());
        }
        Ok(resolvers)
    }
}

/// Asks one server.
fn resolver(server: &NameServerConfig, options: &ResolverOpts) -> Result<TokioResolver, String> {
    let config = ResolverConfig::from_name_servers(vec![server.clone()]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let asks = builder.options_mut();
    asks.timeout = PATIENCE;
    asks.edns0 = options.edns0;
    asks.num_concurrent_reqs = 1;
    asks.cache_size = CACHED;
    asks.use_hosts_file = ResolveHosts::Never;
    asks.preserve_intermediates = true;
    builder.build().map_err(|error| error.to_string())
}
