//! `store`

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::store::embedded::EmbeddedStore;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to serve; whoever reaches it may change everything
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8500")]
    listen: SocketAddr,
    /// File to keep the data in [default: store.redb in the state directory]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

pub(super) async fn exec(arguments: Arguments, config: &Config) -> Result<()> {
    let file = arguments.data.unwrap_or_else(|| config.store_file());
    if let Some(parent) = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listen on {}: choose with --listen", arguments.listen))?;
    let store = EmbeddedStore::open(&file)?;
    tracing::info!(address = %arguments.listen, file = %file.display(), "store is running");
    let stop = super::run::stop_signal()?;
    Ok(store.serve_tcp(listener, stop.cancelled_owned()).await?)
}
