//! Docker's own API, as far as it is asked here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{EventMessage, Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::{
    EventsOptions, InspectContainerOptions, InspectNetworkOptions, ListNetworksOptions,
};
use futures_util::Stream;
use ipnet::IpNet;

use super::error::DockerError;
use super::options;
use crate::store::schema::NetworkRecord;

/// Seconds that an answer may take.
const TIMEOUT: u64 = 60;

/// One connection's worth of knowledge: which version of the API the daemon speaks.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    docker: Docker,
    socket: PathBuf,
}

/// A network of Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) options: BTreeMap<String, String>,
    pub(super) internal: bool,
    pub(super) configs: Vec<SeenConfig>,
}

/// A subnet of a network of Docker's, as the user has said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeenConfig {
    pub(super) subnet: Option<IpNet>,
    pub(super) range: Option<IpNet>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) reserved: Vec<IpAddr>,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) id: String,
    pub(super) name: String,
    /// Its first process, as the daemon numbers them.
    pub(super) pid: u32,
}

/// An endpoint that Docker knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenEndpoint {
    pub(super) id: String,
    pub(super) name: String,
    /// `None` before its container runs.
    pub(super) container: Option<String>,
    pub(super) ips: Vec<IpAddr>,
}

impl Engine {
    /// # Errors
    /// When the daemon does not answer.
    pub(super) async fn connect(socket: &Path) -> Result<Self, DockerError> {
        let failed = |source| DockerError::Engine {
            socket: socket.to_owned(),
            source,
        };
        let path = socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, TIMEOUT, bollard::API_DEFAULT_VERSION)
            .map_err(failed)?;
        Ok(Self {
            docker: docker.negotiate_version().await.map_err(failed)?,
            socket: socket.to_owned(),
        })
    }

    fn failed(&self, source: Error) -> DockerError {
        DockerError::Engine {
            socket: self.socket.clone(),
            source,
        }
    }

    /// Which daemon it is.
    pub(super) async fn version(&self) -> Result<String, DockerError> {
        let version = self.docker.version().await;
        let version = version.map_err(|error| self.failed(error))?.version;
        Ok(format!("Docker {} answers", version.unwrap_or_default()))
    }

    /// All networks, of all drivers.
    pub(super) async fn networks(&self) -> Result<Vec<Seen>, DockerError> {
        let all = self.docker.list_networks(None::<ListNetworksOptions>).await;
        let all = all.map_err(|error| self.failed(error))?;
        let seen = all.into_iter().map(|network| Seen {
            id: network.id.unwrap_or_default(),
            name: network.name.unwrap_or_default(),
            driver: network.driver.unwrap_or_default(),
            options: network.options.unwrap_or_default().into_iter().collect(),
            internal: network.internal.unwrap_or_default(),
            configs: configs(network.ipam.and_then(|ipam| ipam.config)),
        });
        Ok(seen.collect())
    }

    /// The endpoints on a network; `None` when there is no such network.
    pub(super) async fn endpoints(
        &self,
        id: &str,
    ) -> Result<Option<Vec<SeenEndpoint>>, DockerError> {
        let found = self
            .docker
            .inspect_network(id, None::<InspectNetworkOptions>);
        let network = match found.await {
            Ok(network) => network,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let endpoints = network.containers.unwrap_or_default().into_iter();
        let seen = endpoints.map(|(key, endpoint)| {
            let addresses = [endpoint.ipv4_address, endpoint.ipv6_address];
            let parse = |text: String| Some(text.parse::<IpNet>().ok()?.addr());
            SeenEndpoint {
                id: endpoint.endpoint_id.unwrap_or_default(),
                name: endpoint.name.unwrap_or_default(),
                container: (!key.starts_with("ep-")).then_some(key),
                ips: addresses.into_iter().flatten().filter_map(parse).collect(),
            }
        });
        Ok(Some(seen.collect()))
    }

    /// The container with this name, id or first digits of the id.
    ///
    /// # Errors
    /// When there is none, or it does not run.
    pub(super) async fn running(&self, container: &str) -> Result<Running, DockerError> {
        let found = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>);
        let found = match found.await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(404) => {
                return Err(DockerError::NoContainer(container.to_owned()));
            }
            Err(error) => return Err(self.failed(error)),
        };
        let pid = found.state.and_then(|state| state.pid);
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        Ok(Running {
            id: found.id.unwrap_or_default(),
            name: found
                .name
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            // It has none while it does not run.
            pid: pid
                .filter(|pid| *pid > 0)
                .ok_or_else(|| DockerError::NotRunning(container.to_owned()))?,
        })
    }

    /// What else an endpoint's container is called on its network.
    pub(super) async fn aliases(
        &self,
        container: &str,
        endpoint: &str,
    ) -> Result<Vec<String>, DockerError> {
        let found = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>);
        let container = found.await.map_err(|error| self.failed(error))?;
        let networks = container.network_settings.and_then(|all| all.networks);
        let mut networks = networks.unwrap_or_default().into_values();
        let own = networks.find(|own| own.endpoint_id.as_deref() == Some(endpoint));
        let own = own.unwrap_or_default();
        // Before 25 there are aliases only.
        let names = own.aliases.into_iter().chain(own.dns_names).flatten();
        let names: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
        Ok(names.into_iter().collect())
    }

    /// Makes the network that stands for one of the store.
    pub(super) async fn create_twin(
        &self,
        name: &str,
        record: &NetworkRecord,
    ) -> Result<(), DockerError> {
        let vni = record.vni.to_string();
        let said = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            let pairs = pairs.iter();
            pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let config = record.subnets.iter().map(|subnet| IpamConfig {
            subnet: Some(subnet.to_string()),
            gateway: record
                .gateways()
                .find(|ip| subnet.contains(ip))
                .map(|ip| ip.to_string()),
            ..IpamConfig::default()
        });
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some(super::DRIVER.to_owned()),
            internal: Some(record.options.internal),
            // A daemon before 28 knows no network without IPv4, and is refused its pool.
            enable_ipv4: Some(record.has_v4()),
            enable_ipv6: Some(record.has_v6()),
            ipam: Some(Ipam {
                driver: Some(super::DRIVER.to_owned()),
                config: Some(config.collect()),
                options: Some(said(&[(options::VNI, &vni)])),
            }),
            options: Some(said(&[(options::NETWORK, name), (options::VNI, &vni)])),
            ..NetworkCreateRequest::default()
        };
        let made = self.docker.create_network(request).await;
        made.map(drop).map_err(|error| self.failed(error))
    }

    /// Removes a network; one that is not there is no error.
    pub(super) async fn remove(&self, id: &str) -> Result<(), DockerError> {
        match self.docker.remove_network(id).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What happens from now on.
    pub(super) fn events(&self) -> impl Stream<Item = Result<EventMessage, Error>> + use<> {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        let filters = [
            ("type", texts(&["network", "container"])),
            (
                "event",
                texts(&["create", "destroy", "connect", "disconnect", "rename"]),
            ),
        ];
        // The request goes out when the first one is asked for.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let options = EventsOptions {
            since: now.ok().map(|now| now.as_secs().to_string()),
            filters: Some(filters.map(|(name, texts)| (name.to_owned(), texts)).into()),
            ..EventsOptions::default()
        };
        self.docker.events(Some(options))
    }
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What cannot be read is left out: it is Docker's own text, and the driver has seen it before.
fn configs(configs: Option<Vec<IpamConfig>>) -> Vec<SeenConfig> {
    let net = |text: Option<String>| text?.parse().ok();
    let configs = configs.unwrap_or_default().into_iter();
    configs
        .map(|config| SeenConfig {
            subnet: net(config.subnet),
            range: net(config.ip_range),
            // Some versions write the prefix length behind it.
            gateway: config.gateway.and_then(|text| address(&text)),
            reserved: config
                .auxiliary_addresses
                .unwrap_or_default()
                .values()
                .filter_map(|text| address(text))
                .collect(),
        })
        .collect()
}

/// An address, with or without a prefix length.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let bare = text.split_once('/').map_or(text, |(ip, _)| ip);
    bare.parse().ok()
}
