//! A tunnel between containers, inside the overlay.

use anyhow::Result;

use super::Container;

/// One end: a vxlan device with an address, which sends to the VXLAN port as the overlay does.
pub fn nest(here: &Container, there: &Container, address: &str, mtu: &str) -> Result<()> {
    let (local, remote) = (here.ip.to_string(), there.ip.to_string());
    let kind = ["link", "add", "nested", "type", "vxlan", "id", "9"];
    let ends = ["local", &local, "remote", &remote, "dstport", "4789"];
    here.netns.ip(&[&kind[..], &ends].concat())?;
    here.netns
        .ip(&["address", "add", address, "dev", "nested"])?;
    here.netns
        .ip(&["link", "set", "nested", "mtu", mtu, "up"])?;
    Ok(())
}
