//! Settings: flag, else `OVERLAY_*`, else the configuration file, else the default.

mod file;
mod outer;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, builder::BoolishValueParser};
use serde::Deserialize;
use thiserror::Error;

use crate::datapath::{DecapMode, XdpMode};
pub use file::DEFAULT_FILE;
pub use outer::Dscp;

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}:{line}: {message}")]
    Content {
        path: PathBuf,
        line: usize,
        message: String,
    },
    #[error(
        "--decap xdp needs XDP in the device's driver, and --xdp is {0}: choose --xdp native or \
         auto, or --decap tc"
    )]
    DecapWithoutXdp(XdpMode),
}

/// Where the agent keeps its files; every command takes these.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Locations")]
pub struct Locations {
    /// Directory of the agent's socket and lock [default: /run/overlay]
    #[arg(long, global = true, env = "OVERLAY_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Directory for pinned maps and links, on a bpffs [default: /sys/fs/bpf/overlay]
    #[arg(long, global = true, env = "OVERLAY_BPFFS_DIR", value_name = "DIR")]
    pub bpffs_dir: Option<PathBuf>,
    /// Directory of what outlives a reboot [default: /var/lib/overlay]
    #[arg(long, global = true, env = "OVERLAY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Configuration file; without this flag a missing file is no error [default:
    /// /etc/overlay/config.toml]
    #[arg(long, global = true, env = "OVERLAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What the data path and the agent are to do. The file's keys are the flags' names, those of
/// [`Locations`] included.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Consul's address (`http://`, `https://`, `unix://`, `consul://` or HOST:PORT) or
    /// `embedded` [default: `$CONSUL_HTTP_ADDR`, else embedded]
    #[arg(long, env = "OVERLAY_STORE", value_name = "URL|embedded")]
    pub store: Option<String>,
    /// First part of every key in the store [default: overlay/]
    #[arg(long, env = "OVERLAY_STORE_PREFIX", value_name = "PREFIX")]
    pub store_prefix: Option<String>,
    /// Address that other hosts send to; once for IPv4 and once for IPv6, or both with a comma
    /// between them [default: the underlay's]
    #[arg(
        long,
        env = "OVERLAY_ADVERTISE",
        value_name = "IP",
        value_delimiter = ','
    )]
    #[serde(default, deserialize_with = "outer::addresses")]
    pub advertise: Option<Vec<IpAddr>>,
    /// Network device towards the other hosts [default: the one with the advertised address,
    /// else that of the default route]
    #[arg(long, env = "OVERLAY_UNDERLAY", value_name = "IFACE")]
    pub underlay: Option<String>,
    /// UDP port of VXLAN, the same on all hosts [default: 4789]
    #[arg(long, env = "OVERLAY_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// TTL or hop limit of the outer headers [default: 64]
    #[arg(long, env = "OVERLAY_OUTER_TTL", value_parser = clap::value_parser!(u8).range(1..))]
    pub outer_ttl: Option<u8>,
    /// DSCP of the outer headers: the inner packet's or always the same [default: 0]
    #[arg(long, env = "OVERLAY_DSCP", value_name = "inherit|0-63")]
    pub dscp: Option<Dscp>,
    /// Fill in the outer UDP checksum: the kernel's vxlan device then encapsulates every packet,
    /// which is slower
    #[arg(
        long, env = "OVERLAY_UDP_CHECKSUM", action = ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new()
    )]
    pub udp_checksum: Option<bool>,
    /// Where the early filter runs; auto is native on real NICs and off on virtual devices
    /// [default: auto]
    #[arg(long, env = "OVERLAY_XDP")]
    pub xdp: Option<XdpMode>,
    /// Where frames from other hosts are decapsulated; auto is in XDP on real NICs, at TC on
    /// virtual devices [default: tc]
    #[arg(long, env = "OVERLAY_DECAP")]
    pub decap: Option<DecapMode>,
    /// This host's name in the store [default: the host name]
    #[arg(long, env = "OVERLAY_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Where to serve /metrics, /healthz and /readyz [default: 127.0.0.1:9469]
    #[arg(long, env = "OVERLAY_METRICS_ADDR", value_name = "IP:PORT")]
    pub metrics_addr: Option<SocketAddr>,
    /// Log drops, each kind at its 1st, 2nd, 4th, 8th … packet
    #[arg(
        long, env = "OVERLAY_LOG_DROPS", action = ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new()
    )]
    pub log_drops: Option<bool>,
    /// Serve Docker: network and IPAM driver overlay-ebpf
    #[arg(
        long, env = "OVERLAY_DOCKER", action = ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new()
    )]
    pub docker: Option<bool>,
    /// Socket of Docker's API [default: /run/docker.sock]
    #[arg(long, env = "OVERLAY_DOCKER_SOCKET", value_name = "PATH")]
    pub docker_socket: Option<PathBuf>,
    /// Where Docker looks for the sockets of its plugins [default: /run/docker/plugins]
    #[arg(long, env = "OVERLAY_DOCKER_PLUGINS", value_name = "DIR")]
    pub docker_plugins: Option<PathBuf>,
    /// Seconds between two looks at the maps, in which what somebody else has changed is repaired [default: 30]
    #[arg(long, env = "OVERLAY_AUDIT_INTERVAL", value_name = "SECONDS")]
    pub audit_interval: Option<NonZeroU32>,
    /// Seconds after which the endpoints of a host whose agent is gone are withdrawn here; at least 10 [default: 60]
    #[arg(long, env = "OVERLAY_NODE_GRACE", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(10..))]
    pub node_grace: Option<u32>,
    /// File that names the servers for names that are no container's [default: /etc/resolv.conf]
    #[arg(long, env = "OVERLAY_RESOLV_CONF", value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    #[arg(skip)]
    run_dir: Option<PathBuf>,
    #[arg(skip)]
    bpffs_dir: Option<PathBuf>,
    #[arg(skip)]
    state_dir: Option<PathBuf>,
}

/// Which store the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// Nothing: `CONSUL_HTTP_ADDR` decides, else the embedded store.
    Unset,
    Embedded,
    Url(String),
}

/// The settings with every default filled in that does not depend on the host.
#[derive(Clone, Debug)]
pub struct Config {
    pub run_dir: PathBuf,
    pub bpffs_dir: PathBuf,
    pub state_dir: PathBuf,
    pub store: StoreChoice,
    pub store_prefix: Option<String>,
    /// VTEP addresses; none for those of the underlay device.
    pub advertise: Vec<IpAddr>,
    pub underlay: Option<String>,
    pub port: u16,
    pub outer_ttl: u8,
    pub dscp: Dscp,
    pub udp_checksum: bool,
    pub xdp: XdpMode,
    pub decap: DecapMode,
    pub node_name: Option<String>,
    pub metrics_addr: SocketAddr,
    pub log_drops: bool,
    /// How often the maps are read back. Local work: the store is not asked.
    pub audit_interval: Duration,
    /// How long another host's agent may be gone until its endpoints are withdrawn.
    pub node_grace: Duration,
    pub resolv_conf: PathBuf,
    pub docker: DockerConfig,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    /// Whether it is served.
    pub serve: bool,
    pub socket: PathBuf,
    pub plugins: PathBuf,
}

impl Config {
    /// Completes what clap took from flags and environment with the file and the defaults.
    pub fn load(locations: Locations, settings: Settings) -> Result<Self, ConfigError> {
        let file = match &locations.config {
            Some(path) => file::read(path)?,
            None => file::read_if_there(Path::new(DEFAULT_FILE))?,
        };
        Ok(Self::resolve(locations, settings, file))
    }

    fn resolve(locations: Locations, settings: Settings, file: Settings) -> Self {
        let dir = |flag: Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            flag.or(file).unwrap_or_else(|| default.into())
        };
        Self {
            run_dir: dir(locations.run_dir, file.run_dir, "/run/overlay"),
            bpffs_dir: dir(locations.bpffs_dir, file.bpffs_dir, "/sys/fs/bpf/overlay"),
            state_dir: dir(locations.state_dir, file.state_dir, "/var/lib/overlay"),
            store: match settings.store.or(file.store) {
                None => StoreChoice::Unset,
                Some(text) if text == "embedded" => StoreChoice::Embedded,
                Some(url) => StoreChoice::Url(url),
            },
            store_prefix: settings.store_prefix.or(file.store_prefix),
            advertise: settings.advertise.or(file.advertise).unwrap_or_default(),
            underlay: settings.underlay.or(file.underlay),
            port: settings.port.or(file.port).unwrap_or(4789),
            outer_ttl: settings.outer_ttl.or(file.outer_ttl).unwrap_or(64),
            dscp: settings.dscp.or(file.dscp).unwrap_or_default(),
            udp_checksum: settings.udp_checksum.or(file.udp_checksum).unwrap_or(false),
            xdp: settings.xdp.or(file.xdp).unwrap_or_default(),
            decap: settings.decap.or(file.decap).unwrap_or_default(),
            node_name: settings.node_name.or(file.node_name),
            metrics_addr: settings
                .metrics_addr
                .or(file.metrics_addr)
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9469))),
            log_drops: settings.log_drops.or(file.log_drops).unwrap_or(false),
            audit_interval: {
                let seconds = settings.audit_interval.or(file.audit_interval);
                Duration::from_secs(seconds.map_or(30, NonZeroU32::get).into())
            },
            node_grace: {
                let seconds = settings.node_grace.or(file.node_grace);
                Duration::from_secs(seconds.unwrap_or(60).into())
            },
            resolv_conf: dir(settings.resolv_conf, file.resolv_conf, "/etc/resolv.conf"),
            docker: DockerConfig {
                serve: settings.docker.or(file.docker).unwrap_or(false),
                socket: dir(
                    settings.docker_socket,
                    file.docker_socket,
                    "/run/docker.sock",
                ),
                plugins: dir(
                    settings.docker_plugins,
                    file.docker_plugins,
                    "/run/docker/plugins",
                ),
            },
        }
    }

    /// Refuses settings of a data path that contradict each other, wherever they are from.
    pub fn consistent(self) -> Result<Self, ConfigError> {
        match (self.decap, self.xdp) {
            (DecapMode::Xdp, mode @ (XdpMode::Off | XdpMode::Generic)) => {
                Err(ConfigError::DecapWithoutXdp(mode))
            }
            (DecapMode::Xdp, XdpMode::Auto | XdpMode::Native)
            | (DecapMode::Auto | DecapMode::Tc, _) => Ok(self),
        }
    }

    /// The socket of the agent's API.
    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// The socket of the embedded store.
    pub fn store_socket(&self) -> PathBuf {
        self.run_dir.join("store.sock")
    }

    /// The file of the embedded store.
    pub fn store_file(&self) -> PathBuf {
        self.state_dir.join("store.redb")
    }
}

#[cfg(test)]
mod tests;
