//! The embedded store as a server for several hosts.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{agent, http, netns::Netns, process::Daemon};

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running `overlay-agent store`.
#[derive(Debug)]
pub struct EmbeddedStore {
    daemon: Daemon,
    address: SocketAddr,
}

impl EmbeddedStore {
    /// Serves `<folder>/store` on `ip`, port 8500. A second start on the same folder finds the
    /// data of the first.
    pub fn start(netns: &Netns, ip: IpAddr, folder: &Path) -> Result<Self> {
        let address = SocketAddr::new(ip, 8500);
        let mut command = agent::command(netns)?;
        command
            .args(["store", "--listen", &address.to_string(), "--data"])
            .arg(folder.join("store"));
        let mut daemon = Daemon::spawn("the embedded store", command, &folder.join("store.log"))?;
        daemon
            .wait_ready(START_TIMEOUT, || {
                http::get(netns, address, "/v1/status/leader").map(drop)
            })
            .context("start the embedded store")?;
        Ok(Self { daemon, address })
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
