//! The name servers that this host itself asks.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ResolverConfig, ServerOrderingStrategy};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, RecordType};
use hickory_server::zone_handler::{AuthLookup, LookupError};
use tokio::sync::Semaphore;

use crate::host::service;

/// Who waits for more answers at once has to ask again.
const MAX_WAITING: usize = 512;

/// Docker's resolver waits four seconds for us.
const PATIENCE: Duration = Duration::from_millis(3500);

/// Asks them; reads its file again when that has changed.
pub(super) struct Upstream {
    file: PathBuf,
    current: Mutex<Option<Read>>,
    waiting: Semaphore,
}

#[derive(Clone)]
struct Read {
    modified: SystemTime,
    /// `None` where the file names no server.
    resolver: Option<Arc<TokioResolver>>,
}

impl Upstream {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file,
            current: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    pub(super) async fn lookup(
        &self,
        name: Name,
        kind: RecordType,
    ) -> Result<AuthLookup, LookupError> {
        let failed = || LookupError::from(ResponseCode::ServFail);
        let _waiting = self.waiting.try_acquire().map_err(|_| failed())?;
        let resolver = self.resolver().ok_or_else(failed)?;
        let answer = tokio::time::timeout(PATIENCE, resolver.lookup(name, kind)).await;
        match answer {
            Ok(Ok(found)) => Ok(found.into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(failed()),
        }
    }

    fn resolver(&self) -> Option<Arc<TokioResolver>> {
        let modified = fs::metadata(&self.file).and_then(|file| file.modified());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(modified) = modified
            && current
                .as_ref()
                .is_none_or(|read| read.modified != modified)
        {
            *current = Some(Read {
                modified,
                resolver: self.read(),
            });
        }
        current.clone()?.resolver
    }

    fn read(&self) -> Option<Arc<TokioResolver>> {
        let file = self.file.display();
        let content = match fs::read(&self.file) {
            Ok(content) => content,
            Err(error) => {
                tracing::warn!("read {file}: {error}: names out there are not found");
                return None;
            }
        };
        let (config, mut options) = match parse_resolv_conf(content) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::warn!("{file}: {error}: names out there are not found");
                return None;
            }
        };
        let mut servers = config.name_servers().to_vec();
        // Ourselves: a host may ask like its containers.
        servers.retain(|server| server.ip != IpAddr::from(service::ADDRESS));
        if servers.is_empty() {
            tracing::warn!("{file} names no server: names out there are not found");
            return None;
        }
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true;
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        match builder.build() {
            Ok(resolver) => Some(Arc::new(resolver)),
            Err(error) => {
                tracing::warn!("{file}: {error}: names out there are not found");
                None
            }
        }
    }
}
