//! A real Consul server.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{http, netns::Netns, packages, process::Daemon};

/// An election on a shared machine takes a few seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Consul 1.8 makes this folder whenever it is started, for its own tests, and leaves it.
const LITTER: &str = "/tmp/consul-test";

/// One server that keeps its data in a folder: kill it and start it again there.
#[derive(Debug)]
pub struct Consul {
    daemon: Daemon,
    address: SocketAddr,
}

impl Consul {
    /// Serves on `ip` (port 8500) and waits until it has a leader and takes writes.
    pub fn start(netns: &Netns, ip: IpAddr, folder: &Path) -> Result<Self> {
        Self::start_with(netns, ip, folder, &json!({}))
    }

    /// The same with more settings, as in Consul's configuration file (ACLs, TLS, limits).
    ///
    /// The data stay in `<folder>/consul`, so a later start on `folder` continues with them.
    pub fn start_with(netns: &Netns, ip: IpAddr, folder: &Path, more: &Value) -> Result<Self> {
        let mut server = Self::spawn(netns, ip, folder, more)?;
        server.wait(netns)?;
        Ok(server)
    }

    /// Servers that form one cluster, and take writes each.
    pub fn cluster(places: &[(&Netns, Ipv4Addr, &Path)]) -> Result<Vec<Self>> {
        let all: Vec<_> = places.iter().map(|(_, ip, _)| ip).collect();
        let mut servers = Vec::new();
        for (netns, ip, folder) in places {
            let more = json!({
                "bootstrap_expect": all.len(),
                "node_name": format!("consul-{ip}"),
                "retry_join": all,
                "retry_interval": "1s",
            });
            servers.push(Self::spawn(netns, (*ip).into(), folder, &more)?);
        }
        for (server, (netns, _, _)) in servers.iter_mut().zip(places) {
            server.wait(netns)?;
        }
        Ok(servers)
    }

    fn spawn(netns: &Netns, ip: IpAddr, folder: &Path, more: &Value) -> Result<Self> {
        let program = packages::consul()?;
        let data = folder.join("consul");
        fs::create_dir_all(&data).with_context(|| format!("create folder {}", data.display()))?;
        let config = folder.join("consul.json");
        fs::write(&config, settings(ip, more)?)
            .with_context(|| format!("write {}", config.display()))?;

        let mut command = netns.command(program)?;
        command
            .arg("agent")
            .arg("-config-file")
            .arg(&config)
            .arg("-data-dir")
            .arg(&data);
        let daemon = Daemon::spawn("Consul", command, &folder.join("consul.log"))?;
        let address = SocketAddr::new(ip, 8500);
        Ok(Self { daemon, address })
    }

    fn wait(&mut self, netns: &Netns) -> Result<()> {
        let address = self.address;
        self.daemon
            .wait_ready(START_TIMEOUT, || takes_writes(netns, address))
            .context("start Consul")?;
        // Goes only if it is empty, which it always is.
        let _ = fs::remove_dir(LITTER);
        Ok(())
    }

    /// What `--store` takes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

fn settings(ip: IpAddr, more: &Value) -> Result<String> {
    let mut settings = json!({
        "server": true,
        "bootstrap_expect": 1,
        "node_name": "consul",
        "bind_addr": ip,
        "client_addr": ip,
        "log_level": "warn",
        "disable_update_check": true,
        // The shortest election time-outs: there is nobody to lose an election to.
        "performance": { "raft_multiplier": 1 },
    });
    let (Some(all), Some(more)) = (settings.as_object_mut(), more.as_object()) else {
        bail!("more settings of Consul must be a JSON object: {more}");
    };
    all.extend(more.clone());
    Ok(settings.to_string())
}

/// Right after its election a server still refuses writes for a moment. With ACLs on, being
/// refused for the missing token is a sign of life too.
fn takes_writes(netns: &Netns, address: SocketAddr) -> Result<()> {
    let leader = http::get(netns, address, "/v1/status/leader")?;
    if leader.trim() == "\"\"" {
        bail!("no leader yet");
    }
    let answer = http::request(netns, address, "PUT", "/v1/kv/harness/ready", "yes")?;
    match answer.status {
        200 | 403 => Ok(()),
        status => bail!("a write got status {status}: {}", answer.body.trim()),
    }
}
