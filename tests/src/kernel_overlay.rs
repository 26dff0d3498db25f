//! The kernel's own overlay on a host: container – veth – bridge – vxlan, static forwarding
//! entries. The yardstick, and the other side in interoperation tests.

use std::{net::Ipv4Addr, process::Command};

use anyhow::Result;

use crate::{
    command::output,
    lab::{Host, UNDERLAY},
    netns::Netns,
};

/// Outer headers of VXLAN over IPv4 on a 1500-byte underlay leave this much.
pub const MTU: &str = "1450";

const VXLAN: &str = "vxlan0";
const BRIDGE: &str = "br0";

/// Bridge and vxlan device in a host's namespace, which they share the life of.
#[derive(Debug)]
pub struct KernelOverlay<'a> {
    host: &'a Host,
    ports: u32,
}

impl<'a> KernelOverlay<'a> {
    /// Makes the two devices: port 4789, no learning.
    pub fn new(host: &'a Host, vni: u32) -> Result<Self> {
        let netns = host.netns();
        let (vni, ip) = (vni.to_string(), host.ip().to_string());
        let kind = ["link", "add", VXLAN, "type", "vxlan", "id", &vni];
        let options = [
            "local",
            &ip,
            "dev",
            UNDERLAY,
            "dstport",
            "4789",
            "nolearning",
        ];
        netns.ip(&[&kind[..], &options[..]].concat())?;
        netns.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        netns.ip(&["link", "set", VXLAN, "mtu", MTU, "master", BRIDGE, "up"])?;
        netns.ip(&["link", "set", BRIDGE, "up"])?;
        Ok(Self { host, ports: 0 })
    }

    /// A container on the bridge with `eth0`, address `ip`/24 and the given MAC.
    pub fn container(&mut self, ip: Ipv4Addr, mac: &str) -> Result<Netns> {
        let port = format!("c{}", self.ports);
        self.ports += 1;
        let container = self.host.container(&port)?;
        container.connect("eth0", self.host.netns(), &port)?;
        container.ip(&["link", "set", "eth0", "address", mac, "mtu", MTU])?;
        container.ip(&["addr", "add", &format!("{ip}/24"), "dev", "eth0"])?;
        self.host
            .netns()
            .ip(&["link", "set", &port, "mtu", MTU, "master", BRIDGE])?;
        Ok(container)
    }

    /// Frames for `mac` go to the host `vtep`. With `00:00:00:00:00:00`: also broadcast and
    /// whatever has no entry.
    pub fn remote(&self, mac: &str, vtep: Ipv4Addr) -> Result<()> {
        output(
            Command::new("bridge")
                .args(["-netns", self.host.netns().name()])
                .args(["fdb", "append", mac, "dev", VXLAN, "dst", &vtep.to_string()]),
        )?;
        Ok(())
    }
}
