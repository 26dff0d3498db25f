//! `node ls|inspect|add|forget`

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::output::{Format, fields, joined, print, table};
use super::values;
use crate::api::client::Client;
use crate::api::types::{Node, NodeDetail, NodeRequest};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the hosts
    Ls(Format),
    /// Show one host
    Inspect {
        /// Name or id
        #[arg(value_parser = values::name)]
        node: String,
        #[command(flatten)]
        format: Format,
    },
    /// Announce a host without an agent, such as a hardware VTEP
    Add {
        /// Name of the host
        #[arg(value_parser = values::name)]
        name: String,
        /// Address that it sends from and is sent to
        #[arg(long, value_name = "IP", value_parser = values::vtep)]
        vtep: IpAddr,
        /// Its UDP port
        #[arg(long, default_value_t = 4789, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
    },
    /// Forget a host that will not come back, with its endpoints and addresses; refused while its agent runs
    #[command(visible_alias = "rm")]
    Forget {
        /// Name or id
        #[arg(value_parser = values::name)]
        node: String,
    },
}

pub(super) async fn exec(arguments: Arguments, client: &Client) -> Result<()> {
    match arguments.action {
        Action::Ls(format) => {
            let nodes: Vec<Node> = client.get(&["nodes"]).await?;
            format.print(&nodes, |nodes| {
                let header = ["ID", "NAME", "ADDRESS", "PORT", "AGENT", "STATE"];
                table(header, nodes.iter().map(row))
            })
        }
        Action::Inspect { node, format } => {
            let found: NodeDetail = client.get(&["nodes", &node]).await?;
            format.print(&found, detail)
        }
        Action::Add { name, vtep, port } => {
            let attempt = format!("cannot add node {name}");
            let request = NodeRequest { name, vtep, port };
            let node: Node = client.post(&["nodes"], &request).await.context(attempt)?;
            print(&format!("node {} has {}", node.name, joined(&node.vteps)))
        }
        Action::Forget { node } => client
            .delete(&["nodes", &node])
            .await
            .with_context(|| format!("cannot forget node {node}")),
    }
}

fn row(node: &Node) -> [String; 6] {
    [
        node.id.clone(),
        node.name.clone(),
        joined(&node.vteps),
        node.port.to_string(),
        agent(node),
        state(node),
    ]
}

fn detail(found: &NodeDetail) -> String {
    let node = &found.node;
    fields([
        ("id", node.id.clone()),
        ("name", node.name.clone()),
        ("addresses", joined(&node.vteps)),
        ("port", node.port.to_string()),
        ("agent", agent(node)),
        ("state", state(node)),
        ("endpoints", found.endpoints.to_string()),
    ])
}

fn agent(node: &Node) -> String {
    match (node.agent, node.here) {
        (_, true) => format!("{} (here)", node.version),
        (true, false) => node.version.clone(),
        (false, false) => "none".to_owned(),
    }
}

/// State of a node's agent, and since when it has it.
pub(super) fn state(node: &Node) -> String {
    match (node.state, &node.since) {
        (None, _) => "-".to_owned(),
        (Some(state), None) => state.label().to_owned(),
        (Some(state), Some(since)) => format!("{} since {since}", state.label()),
    }
}
