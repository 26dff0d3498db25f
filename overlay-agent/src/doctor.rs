//! Whether this host has what it takes, with or without an agent.

mod docker;

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Error, Result};
use serde::Serialize;

use crate::api::client::Client;
use crate::api::types::Status;
use crate::config::Config;
use crate::control::start;
use crate::datapath::{Datapath, Paths};
use crate::host::{Netlink, checks};
use crate::store::Client as StoreClient;
use crate::store::schema::{Keys, Schema};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub outcome: Outcome,
    /// What was found, or what is wrong and what to do about it; one line.
    pub said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    /// Some would call it wrong.
    Warning,
    Failed,
}

impl Finding {
    fn new(what: &'static str, outcome: Outcome, said: impl Into<String>) -> Self {
        let said = said.into();
        Self {
            what,
            outcome,
            said,
        }
    }

    /// What came of an attempt.
    fn of<E: Into<Error>>(what: &'static str, result: Result<String, E>) -> Self {
        match result {
            Ok(said) => Self::new(what, Outcome::Ok, said),
            Err(error) => Self::new(what, Outcome::Failed, format!("{:#}", error.into())),
        }
    }
}

/// Looks at everything, in the order in which it would be mended.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let checks = checks::all(&config.bpffs_dir).into_iter();
    let mut found: Vec<_> = checks
        .map(|check| Finding::of(check.what, check.result))
        .collect();
    found.push(Finding::of("underlay", underlay(config).await));
    let attached = Datapath::is_attached(&Paths::new(&config.bpffs_dir));
    if !attached {
        found.push(Finding::of("port", free_port(config.port)));
    }
    found.push(Finding::of("store", store(config).await));
    let status = status(config).await;
    found.push(data_path(attached, status.is_ok()));
    match status {
        Ok(status) => found.extend(agent(&status)),
        Err(error) => found.push(Finding::new("agent", Outcome::Failed, format!("{error:#}"))),
    }
    found.extend(docker::examine(config).await);
    found
}

async fn underlay(config: &Config) -> Result<String> {
    let chosen = start::choose_underlay(config, &Netlink::open()?).await?;
    let (link, vteps) = (chosen.link, chosen.vteps);
    Ok(format!("{} {vteps}, MTU {}", link.name, link.mtu))
}

fn free_port(port: u16) -> Result<String> {
    match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(_) => Ok(format!("UDP {port} is free")),
        Err(error) => anyhow::bail!(
            "UDP port {port}: {error}: `ss -ulnp 'sport = :{port}'` and `ip -d link show type vxlan` \
             show by whom it is used; stop it or take another --port"
        ),
    }
}

async fn store(config: &Config) -> Result<String> {
    if start::uses_embedded(config) {
        let file = config.store_file();
        return Ok(format!("embedded, in {}: for one host", file.display()));
    }
    let store = start::store_config(config)?;
    let client = StoreClient::new(&store)?;
    let key = Keys::new(&store.prefix).schema();
    let Ok(answer) = tokio::time::timeout(start::PROBE, client.get(&key)).await else {
        anyhow::bail!("{} does not answer", client.address());
    };
    let address = client.address();
    match answer?.value {
        None => Ok(format!("{address} answers; no agent has used it yet")),
        Some(pair) => match serde_json::from_slice::<Schema>(&pair.value) {
            Ok(schema) if schema.is_newer() => anyhow::bail!(
                "{address} holds version {} of the layout, and this agent reads up to version {}",
                schema.version,
                Schema::CURRENT.version
            ),
            Ok(_) => Ok(format!("{address} answers")),
            Err(error) => anyhow::bail!("{address}: the key {} is no JSON: {error}", pair.key),
        },
    }
}

async fn status(config: &Config) -> Result<Status> {
    Ok(Client::new(&config.agent_socket())?
        .get(&["status"])
        .await?)
}

fn data_path(attached: bool, running: bool) -> Finding {
    let (outcome, said) = match (attached, running) {
        (true, true) => (Outcome::Ok, "loaded"),
        (true, false) => (
            Outcome::Warning,
            "loaded, and goes on with what it knew when the agent ended",
        ),
        (false, _) => (
            Outcome::Failed,
            "not loaded: `overlay-agent run` or `attach` loads it",
        ),
    };
    Finding::new("data path", outcome, said)
}

fn agent(status: &Status) -> Vec<Finding> {
    let running = format!(
        "{} runs version {}: {} endpoints, {} peers",
        status.node,
        status.version,
        status.endpoints,
        status.peers.len()
    );
    let mut found = vec![Finding::new("agent", Outcome::Ok, running)];
    if !status.synced {
        let said = "the agent has not read the store since its start";
        found.push(Finding::new("agent", Outcome::Failed, said));
    }
    if status.version != env!("CARGO_PKG_VERSION") {
        let said = format!(
            "this program is version {}: restart the agent after an upgrade",
            env!("CARGO_PKG_VERSION")
        );
        found.push(Finding::new("agent", Outcome::Warning, said));
    }
    let problems = status.problems.iter();
    found.extend(problems.map(|problem| Finding::new("problem", Outcome::Failed, problem)));
    found
}
