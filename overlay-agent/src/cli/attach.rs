//! `attach`

use anyhow::Result;

use super::output::print;
use crate::config::Config;
use crate::control::lock::{PinsLock, RunLock};
use crate::control::start;
use crate::datapath::{Datapath, Paths};
use crate::host::link::XdpHook;
use crate::host::{Netlink, checks};

pub(super) async fn exec(config: Config) -> Result<()> {
    checks::require(&config.bpffs_dir)?;
    let netlink = Netlink::open()?;
    let underlay = start::choose_underlay(&config, &netlink).await?;
    let _lock = RunLock::take(&config.run_dir)?;
    let _pins = PinsLock::take(&config.bpffs_dir)?;
    let settings = start::datapath_settings(&config, underlay);
    let datapath = Datapath::open(&settings, Paths::new(&config.bpffs_dir)).await?;
    let (xdp, decap) = (XdpHook::label(datapath.xdp), datapath.decap);
    print(&format!(
        "attached to {} {} port {}, xdp {xdp}, decap {decap}, pinned under {}",
        settings.underlay.link.name,
        settings.underlay.vteps,
        settings.port,
        config.bpffs_dir.display()
    ))
}
