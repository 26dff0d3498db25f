//! What Docker needs of the agent, and of its own settings.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Finding, Outcome};
use crate::config::{Config, DockerConfig};
use crate::docker::{self, plugin_socket};
use crate::host::service;

const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// dockerd waits longer, and nobody likes that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nothing where there is no Docker and none is wanted.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let defaults = DockerConfig::default();
    let (wanted, paths) = match &config.docker {
        Some(paths) => (true, paths),
        None => (false, &defaults),
    };
    let socket = plugin_socket(&paths.plugins);
    if !wanted && !paths.socket.exists() && !socket.exists() {
        return Vec::new();
    }
    let mut found = vec![Finding::of("docker", docker::version(&paths.socket).await)];
    let plugin = if socket.exists() || wanted {
        Finding::of("docker plugin", plugin(&socket).await)
    } else {
        let said = format!(
            "{} is not there: for networks in Docker run the agent with --docker",
            socket.display()
        );
        Finding::new("docker plugin", Outcome::Warning, said)
    };
    found.push(plugin);
    found.push(names());
    found
}

/// Asks what dockerd asks first.
async fn plugin(socket: &Path) -> Result<String> {
    if !socket.exists() {
        bail!(
            "{} is not there, so Docker says that the plugin is not found: start the agent with --docker, \
             or enable overlay-agent.socket",
            socket.display()
        );
    }
    let client = reqwest::Client::builder().unix_socket(socket).build()?;
    let asked = client
        .post("http://localhost/Plugin.Activate")
        .timeout(PATIENCE);
    let answer = asked.send().await.with_context(|| {
        format!(
            "nobody answers at {}: the agent that made it is dead, start it again",
            socket.display()
        )
    })?;
    let answer: Value = answer.json().await.context("read the plugin's answer")?;
    Ok(format!("answers: {}", answer["Implements"]))
}

/// Whether containers are told where names of other hosts are known.
fn names() -> Finding {
    let warn = |said| Finding::new("docker dns", Outcome::Warning, said);
    let wanted = service::ADDRESS.to_string();
    let advice = format!(
        "containers do not find those of other hosts by name: put \"dns\": [\"{wanted}\", YOUR-SERVER] \
         into {DAEMON_JSON} and restart Docker, unless dockerd has --dns"
    );
    let content = match fs::read(DAEMON_JSON) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return warn(advice),
        Err(error) => return warn(format!("read {DAEMON_JSON}: {error}")),
    };
    let settings: Value = match serde_json::from_slice(&content) {
        Ok(settings) => settings,
        Err(error) => return warn(format!("{DAEMON_JSON} is no JSON: {error}")),
    };
    let servers: Vec<&str> = settings["dns"]
        .as_array()
        .map(|servers| servers.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    match servers.iter().position(|server| *server == wanted) {
        Some(0) if servers.len() > 1 => Finding::new(
            "docker dns",
            Outcome::Ok,
            format!("asks {}", servers.join(", ")),
        ),
        Some(0) => warn(format!(
            "asks {wanted} only: names out there are not found while the agent is away; add a second server"
        )),
        Some(_) => warn(format!(
            "asks {} first: {wanted} has to be the first",
            servers[0]
        )),
        None => warn(advice),
    }
}
