//! `network create|ls|inspect|rm`

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use overlay_common::net::Vni;

use super::output::{Format, fields, joined, or_dash, print, table};
use super::values;
use crate::api::client::Client;
use crate::api::types::{Network, NetworkRequest};
use crate::store::schema::FloodMode;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a network that exists on all hosts
    Create(Create),
    /// List the networks
    Ls(Format),
    /// Show one network
    Inspect {
        /// Name of the network
        #[arg(value_parser = values::name)]
        name: String,
        #[command(flatten)]
        format: Format,
    },
    /// Remove a network without endpoints
    Rm {
        /// Name of the network
        #[arg(value_parser = values::name)]
        name: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Name of the network
    #[arg(value_parser = values::name)]
    name: String,
    /// Addresses of the network; may be given several times [default: a free /16 of 10.64.0.0/10]
    #[arg(long = "subnet", value_name = "CIDR", value_parser = values::subnet)]
    subnets: Vec<IpNet>,
    /// Number of the network on the wire, 1 to 16777215 [default: a free one]
    #[arg(long, value_name = "N")]
    vni: Option<Vni>,
    /// Gateway of a subnet, on every host; may be given once for each [default: its first address]
    #[arg(long = "gateway", value_name = "IP")]
    gateways: Vec<IpAddr>,
    /// Part of a subnet to give out addresses of; may be given once for each [default: all of it]
    #[arg(long = "ip-range", value_name = "CIDR", value_parser = values::subnet)]
    ranges: Vec<IpNet>,
    /// Address or part of a subnet that no endpoint gets; may be given several times
    #[arg(long, value_name = "IP|CIDR", value_parser = values::prefix)]
    exclude: Vec<IpNet>,
    /// Largest IP packet in bytes [default: the underlay's less 50, on each host]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(576..))]
    mtu: Option<u16>,
    /// What happens to broadcast and multicast: drop, replicate or multicast=GROUP
    #[arg(long, value_name = "MODE", default_value = "drop")]
    flood: FloodMode,
    /// Packets per second that the endpoints of one host may flood [default: 1000]
    #[arg(long, value_name = "N", value_parser = values::flood_rate)]
    flood_rate: Option<u32>,
    /// No way out of the network: containers get no default route
    #[arg(long)]
    internal: bool,
    /// Carry frames with an 802.1Q tag
    #[arg(long)]
    vlan: bool,
}

pub(super) async fn exec(arguments: Arguments, client: &Client) -> Result<()> {
    match arguments.action {
        Action::Create(create) => {
            let attempt = format!("cannot create network {}", create.name);
            let request = NetworkRequest {
                name: create.name,
                subnets: create.subnets,
                vni: create.vni,
                gateways: create.gateways,
                mtu: create.mtu,
                flood: create.flood,
                flood_rate: create.flood_rate,
                internal: create.internal,
                vlan: create.vlan,
                ranges: create.ranges,
                exclude: create.exclude,
            };
            let network: Network = client
                .post(&["networks"], &request)
                .await
                .context(attempt)?;
            print(&format!(
                "network {} has VNI {} and {}",
                network.name,
                network.vni,
                joined(&network.subnets)
            ))
        }
        Action::Ls(format) => {
            let networks: Vec<Network> = client.get(&["networks"]).await?;
            format.print(&networks, |networks| {
                let header = [
                    "NAME",
                    "VNI",
                    "SUBNETS",
                    "GATEWAY",
                    "MTU",
                    "FLOOD",
                    "ENDPOINTS",
                ];
                table(header, networks.iter().map(row))
            })
        }
        Action::Inspect { name, format } => {
            let network: Network = client.get(&["networks", &name]).await?;
            format.print(&network, |network| {
                let [name, vni, subnets, gateway, mtu, flood, endpoints] = row(network);
                fields([
                    ("name", name),
                    ("vni", vni),
                    ("subnets", subnets),
                    ("gateway", gateway),
                    ("via MAC", or_dash(network.gateway_mac)),
                    ("ip-range", joined(&network.ranges)),
                    ("exclude", joined(&network.exclude)),
                    ("mtu", mtu),
                    ("flood", flood),
                    ("flood rate", network.flood_rate.to_string()),
                    ("internal", network.internal.to_string()),
                    ("vlan", network.vlan.to_string()),
                    ("endpoints", endpoints),
                ])
            })
        }
        Action::Rm { name } => client
            .delete(&["networks", &name])
            .await
            .with_context(|| format!("cannot remove network {name}")),
    }
}

fn row(network: &Network) -> [String; 7] {
    [
        network.name.clone(),
        network.vni.to_string(),
        joined(&network.subnets),
        joined(&network.gateways),
        network.mtu.to_string(),
        network.flood.to_string(),
        network.endpoints.to_string(),
    ]
}
