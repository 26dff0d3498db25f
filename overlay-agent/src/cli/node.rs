//! `node ls|add|rm`

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::output::{Format, joined, print, table};
use super::values;
use crate::api::client::Client;
use crate::api::types::{Node, NodeRequest};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the hosts
    Ls(Format),
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
    /// Remove a host and its endpoints; refused while its agent runs
    Rm {
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
                let header = ["ID", "NAME", "ADDRESS", "PORT", "AGENT"];
                table(header, nodes.iter().map(row))
            })
        }
        Action::Add { name, vtep, port } => {
            let attempt = format!("cannot add node {name}");
            let request = NodeRequest { name, vtep, port };
            let node: Node = client.post(&["nodes"], &request).await.context(attempt)?;
            print(&format!("node {} has {}", node.name, joined(&node.vteps)))
        }
        Action::Rm { node } => client
            .delete(&["nodes", &node])
            .await
            .with_context(|| format!("cannot remove node {node}")),
    }
}

fn row(node: &Node) -> [String; 5] {
    let agent = match (node.agent, node.here) {
        (_, true) => format!("{} (here)", node.version),
        (true, false) => node.version.clone(),
        (false, false) => "none".to_owned(),
    };
    [
        node.id.clone(),
        node.name.clone(),
        joined(&node.vteps),
        node.port.to_string(),
        agent,
    ]
}
