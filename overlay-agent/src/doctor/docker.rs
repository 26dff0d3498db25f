//! What Docker needs of the agent, and of its own settings.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Finding, Outcome};
use crate::config::Config;
use crate::docker::{self, plugin_socket};
use crate::host::service;

const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// dockerd waits longer, and nobody likes that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nothing where there is no Docker and none is wanted.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let docker = &config.docker;
    let (wanted, socket) = (docker.serve, plugin_socket(&docker.plugins));
    if !wanted && !docker.socket.exists() && !socket.exists() {
        return Vec::new();
    }
    let mut docker = Finding::of("docker", docker::version(&config.docker.socket).await);
    if !wanted {
        docker.outcome = docker.outcome.min(Outcome::Warning);
    }
    let mut found = vec![docker];
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
    let (outcome, said) = match fs::read(DAEMON_JSON) {
        Ok(content) => judge(&content),
        Err(error) if error.kind() == ErrorKind::NotFound => judge(b"{}"),
        Err(error) => (Outcome::Warning, format!("read {DAEMON_JSON}: {error}")),
    };
    Finding::new("docker dns", outcome, said)
}

/// What the daemon's settings say.
fn judge(content: &[u8]) -> (Outcome, String) {
    let wanted = service::ADDRESS.to_string();
    let settings: Value = match serde_json::from_slice(content) {
        Ok(settings) => settings,
        Err(error) => {
            return (
                Outcome::Warning,
                format!("{DAEMON_JSON} is no JSON: {error}"),
            );
        }
    };
    let servers = settings["dns"].as_array().into_iter().flatten();
    let servers: Vec<&str> = servers.filter_map(Value::as_str).collect();
    let warning = match servers.iter().position(|server| *server == wanted) {
        Some(0) if servers.len() > 1 => {
            return (Outcome::Ok, format!("asks {}", servers.join(", ")));
        }
        Some(0) => format!(
            "asks {wanted} only: names out there are not found while the agent is away; add a second server"
        ),
        Some(_) => format!("asks {} first: {wanted} has to be the first", servers[0]),
        None => format!(
            "containers do not find those of other hosts by name: put \"dns\": [\"{wanted}\", YOUR-SERVER] \
             into {DAEMON_JSON} and restart Docker, unless dockerd has --dns"
        ),
    };
    (Outcome::Warning, warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_daemon() {
        for (content, outcome, said) in [
            (
                r#"{"dns": ["169.254.53.53", "10.0.0.1"]}"#,
                Outcome::Ok,
                "asks 169.254.53.53, 10.0.0.1",
            ),
            (
                r#"{"dns": ["169.254.53.53"]}"#,
                Outcome::Warning,
                "add a second server",
            ),
            (
                r#"{"dns": ["10.0.0.1", "169.254.53.53"]}"#,
                Outcome::Warning,
                "asks 10.0.0.1 first",
            ),
            (r#"{"dns": []}"#, Outcome::Warning, "by name"),
            ("{}", Outcome::Warning, "by name"),
            ("{", Outcome::Warning, "is no JSON"),
        ] {
            let found = judge(content.as_bytes());
            assert_eq!(found.0, outcome, "{content}");
            assert!(found.1.contains(said), "{content}: {}", found.1);
        }
    }
}
