//! `endpoint add|ls|inspect|rm`

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use ipnet::IpNet;
use overlay_common::net::MacAddr;

use super::output::{Format, fields, joined, or_dash, print, table};
use super::values;
use crate::api::client::Client;
use crate::api::types::{At, Container, Endpoint, EndpointRequest, EndpointState};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put an interface on a network into a container, or announce one of a host without agent
    Add(Add),
    /// List the endpoints of all hosts
    Ls(Format),
    /// Show one endpoint
    Inspect {
        /// Name, id or the id's first digits
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        endpoint: String,
        #[command(flatten)]
        format: Format,
    },
    /// Remove an endpoint and its interface
    Rm {
        /// Name, id or the id's first digits
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        endpoint: String,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// Name of the network
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    network: String,
    #[command(flatten)]
    place: Place,
    /// Address on the network; once for each family [default: a free one of each that it has]
    #[arg(long = "ip", value_name = "IP")]
    ips: Vec<IpAddr>,
    /// Its MAC address [default: 02:42 and the IPv4 address, else 06 and a hash of the IPv6 one]
    #[arg(long, value_parser = values::unicast_mac)]
    mac: Option<MacAddr>,
    /// Name of the interface in the container
    #[arg(long, default_value = "eth0", value_parser = values::ifname, conflicts_with = "node")]
    ifname: String,
    /// Its name, once on the network [default: that of --container, else the endpoint's id]
    #[arg(long, value_parser = values::name)]
    name: Option<String>,
    /// What it may send from besides its own addresses; may be given several times
    #[arg(long = "allow-ip", value_name = "IP|CIDR", value_parser = values::prefix, conflicts_with = "node")]
    allow_ips: Vec<IpNet>,
    /// It forwards packets of others; implied by an --allow-ip of more than one address
    #[arg(long, conflicts_with = "node")]
    forwarding: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Network namespace of the container
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// A process in the container
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Container of Docker, or of Podman's Docker API, by its name, id or the id's first digits
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    container: Option<String>,
    /// Host without an agent, by its name
    #[arg(long, value_parser = values::name, requires = "ips", requires = "mac")]
    node: Option<String>,
}

pub(super) async fn exec(arguments: Arguments, client: &Client) -> Result<()> {
    match arguments.action {
        Action::Add(add) => {
            let attempt = format!("cannot add an endpoint to network {}", add.network);
            let container: Option<Container> = match &add.place.container {
                Some(name) => Some(
                    client
                        .get(&["containers", name])
                        .await
                        .with_context(|| attempt.clone())?,
                ),
                None => None,
            };
            let named = container.as_ref().map(|container| container.name.clone());
            let request = EndpointRequest {
                network: add.network,
                name: add.name.or(named),
                ips: add.ips,
                mac: add.mac,
                allow_ips: add.allow_ips,
                forwarding: add.forwarding,
                container: container.as_ref().map(|container| container.id.clone()),
                at: at(add.place, container, add.ifname)?,
            };
            let endpoint: Endpoint = client
                .post(&["endpoints"], &request)
                .await
                .context(attempt)?;
            print(&format!(
                "endpoint {} has {} and {} on {}",
                endpoint.name,
                joined(&addresses(&endpoint)),
                endpoint.mac,
                endpoint.network
            ))
        }
        Action::Ls(format) => {
            let endpoints: Vec<Endpoint> = client.get(&["endpoints"]).await?;
            format.print(&endpoints, |endpoints| {
                let header = [
                    "ID",
                    "NAME",
                    "NETWORK",
                    "NODE",
                    "IP",
                    "MAC",
                    "CONTAINER",
                    "STATE",
                ];
                table(header, endpoints.iter().map(row))
            })
        }
        Action::Inspect { endpoint, format } => {
            let endpoint: Endpoint = client.get(&["endpoints", &endpoint]).await?;
            format.print(&endpoint, |endpoint| {
                let [_, name, network, node, ip, mac, _, state] = row(endpoint);
                fields([
                    ("id", endpoint.id.clone()),
                    ("name", name),
                    ("network", network),
                    ("vni", endpoint.vni.to_string()),
                    ("node", node),
                    ("ip", ip),
                    ("mac", mac),
                    ("container", or_dash(endpoint.container.as_ref())),
                    ("aliases", joined(&endpoint.aliases)),
                    ("allow-ip", joined(&endpoint.allow_ips)),
                    ("forwarding", endpoint.forwarding.to_string()),
                    ("device", or_dash(endpoint.device.as_ref())),
                    ("state", state),
                ])
            })
        }
        Action::Rm { endpoint } => client
            .delete(&["endpoints", &endpoint])
            .await
            .with_context(|| format!("cannot remove endpoint {endpoint}")),
    }
}

fn at(place: Place, container: Option<Container>, ifname: String) -> Result<At> {
    if let Some(node) = place.node {
        return Ok(At::Node(node));
    }
    let path = match (container, place.netns, place.pid) {
        (Some(container), _, _) => container.netns,
        // The agent has another working directory.
        (None, Some(path), _) => std::path::absolute(&path)
            .with_context(|| format!("find the network namespace {}", path.display()))?,
        (None, None, pid) => {
            let pid = pid.context("say where: --container, --netns, --pid or --node")?;
            Path::new("/proc").join(pid.to_string()).join("ns/net")
        }
    };
    Ok(At::Netns { path, ifname })
}

fn addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    let ip4 = endpoint.ip4.map(IpAddr::from).into_iter();
    ip4.chain(endpoint.ip6.map(IpAddr::from)).collect()
}

/// The first digits of a long id.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn row(endpoint: &Endpoint) -> [String; 8] {
    let state = match endpoint.state {
        EndpointState::Up => "up",
        EndpointState::Gone => "gone",
        EndpointState::Lost => "lost",
        EndpointState::Remote => "remote",
    };
    [
        short(&endpoint.id),
        endpoint.name.clone(),
        endpoint.network.clone(),
        endpoint.node.clone(),
        joined(&addresses(endpoint)),
        endpoint.mac.to_string(),
        or_dash(endpoint.container.as_deref().map(short)),
        state.to_owned(),
    ]
}
