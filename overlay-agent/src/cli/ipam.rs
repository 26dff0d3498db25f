//! `ipam ls|leaks|reclaim`

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::output::{Format, or_dash, table};
use super::values;
use crate::api::client::Client;
use crate::api::types::Address;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the addresses that are not free, and who has them
    Ls(Asked),
    /// List those that nobody uses although they are held
    Leaks(Asked),
    /// Free those that nobody uses; prints which
    Reclaim(Asked),
}

#[derive(Debug, Args)]
struct Asked {
    /// Name of a network [default: all networks]
    #[arg(value_parser = values::name)]
    network: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub(super) async fn exec(arguments: Arguments, client: &Client) -> Result<()> {
    match arguments.action {
        Action::Ls(asked) => {
            let all: Vec<Address> = client.get(&asked.path("addresses")).await?;
            asked.print(&all)
        }
        Action::Leaks(asked) => {
            let leaks: Vec<Address> = client.get(&asked.path("leaks")).await?;
            asked.print(&leaks)
        }
        Action::Reclaim(asked) => {
            let freed = client.post(&asked.path("leaks"), &()).await;
            let freed: Vec<Address> = freed.context("cannot free what nobody uses")?;
            asked.print(&freed)
        }
    }
}

impl Asked {
    fn path<'a>(&'a self, folder: &'a str) -> Vec<&'a str> {
        [folder]
            .into_iter()
            .chain(self.network.as_deref())
            .collect()
    }

    fn print(&self, addresses: &Vec<Address>) -> Result<()> {
        self.format.print(addresses, |addresses| {
            let header = [
                "ADDRESS", "NETWORK", "STATE", "NAME", "ENDPOINT", "NODE", "SINCE",
            ];
            table(header, addresses.iter().map(row))
        })
    }
}

fn row(address: &Address) -> [String; 7] {
    [
        address.ip.to_string(),
        address.network.clone(),
        address.state.label().to_owned(),
        or_dash(address.name.as_ref()),
        or_dash(address.endpoint.as_ref()),
        or_dash(address.node.as_ref()),
        or_dash(address.since.as_ref()),
    ]
}
