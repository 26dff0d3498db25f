//! The kernel's own overlay on a machine: container – veth – bridge – vxlan, static forwarding
//! entries. The yardstick, and the other side in interoperation tests.

use std::{
    net::{IpAddr, Ipv6Addr},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    command::output,
    lab::{Station, UNDERLAY},
    netns::Netns,
};

/// Outer headers of VXLAN over IPv4 on a 1500-byte underlay leave this much.
pub const MTU: &str = "1450";
/// The same over IPv6.
pub const MTU_V6: &str = "1430";

const VXLAN: &str = "vxlan0";
const BRIDGE: &str = "br0";

/// Bridge and vxlan device in a machine's namespace, which they share the life of.
#[derive(Debug)]
pub struct KernelOverlay<'a> {
    station: &'a Station,
    mtu: &'static str,
    ports: u32,
}

impl<'a> KernelOverlay<'a> {
    /// Makes the two devices: IPv4 underlay, port 4789, no learning.
    pub fn new(station: &'a Station, vni: u32) -> Result<Self> {
        Self::with(station, vni, station.ip.into(), &[])
    }

    /// The same from an address of either family, with more options of `ip link … type vxlan`.
    pub fn with(station: &'a Station, vni: u32, local: IpAddr, more: &[&str]) -> Result<Self> {
        Self::of_options(station, vni, local, &[&["nolearning"], more].concat())
    }

    /// One that sends to a group of the underlay what is for nobody that it has learned of.
    pub fn in_group(station: &'a Station, vni: u32, local: IpAddr, group: IpAddr) -> Result<Self> {
        let group = group.to_string();
        // Over IPv6 it wants checksums otherwise.
        let options = ["group", &group, "udp6zerocsumrx"];
        Self::of_options(station, vni, local, &options)
    }

    fn of_options(station: &'a Station, vni: u32, local: IpAddr, more: &[&str]) -> Result<Self> {
        let mtu = if local.is_ipv4() { MTU } else { MTU_V6 };
        let netns = &station.netns;
        let (vni, local) = (vni.to_string(), local.to_string());
        let kind = ["link", "add", VXLAN, "type", "vxlan", "id", &vni];
        let options = ["local", &local, "dev", UNDERLAY, "dstport", "4789"];
        netns.ip(&[&kind[..], &options, more].concat())?;
        netns.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        netns.ip(&["link", "set", VXLAN, "mtu", mtu, "master", BRIDGE, "up"])?;
        netns.ip(&["link", "set", BRIDGE, "up"])?;
        Ok(Self {
            station,
            mtu,
            ports: 0,
        })
    }

    /// A container on the bridge with `eth0`, the given MAC and an address in a /24 or /64.
    pub fn container(&mut self, ip: impl Into<IpAddr>, mac: &str) -> Result<Netns> {
        let port = format!("c{}", self.ports);
        self.ports += 1;
        let container = Netns::new(&format!("{}-{port}", self.station.label))?;
        container.connect("eth0", &self.station.netns, &port)?;
        container.ip(&["link", "set", "eth0", "address", mac, "mtu", self.mtu])?;
        add_address(&container, ip.into())?;
        self.station
            .netns
            .ip(&["link", "set", &port, "mtu", self.mtu, "master", BRIDGE])?;
        Ok(container)
    }

    /// Frames for `mac` go to the host `vtep`. With `00:00:00:00:00:00`: also broadcast and
    /// whatever has no entry.
    pub fn remote(&self, mac: &str, vtep: impl Into<IpAddr>) -> Result<()> {
        let vtep = vtep.into().to_string();
        output(
            Command::new("bridge")
                .args(["-netns", self.station.netns.name()])
                .args(["fdb", "append", mac, "dev", VXLAN, "dst", &vtep]),
        )?;
        Ok(())
    }

    /// Changes the MTU of the vxlan device, as `ip link` would.
    pub fn device_mtu(&self, mtu: u32) -> Result<()> {
        let mtu = mtu.to_string();
        self.station
            .netns
            .ip(&["link", "set", VXLAN, "mtu", &mtu])
            .context("change the MTU of the vxlan device")?;
        Ok(())
    }
}

/// Gives `eth0` an address in a /24 or /64, usable at once.
pub(crate) fn add_address(container: &Netns, ip: IpAddr) -> Result<()> {
    match ip {
        IpAddr::V4(ip) => {
            container.ip(&["addr", "add", &format!("{ip}/24"), "dev", "eth0"])?;
        }
        IpAddr::V6(ip) => add_ipv6(container, ip)?,
    }
    Ok(())
}

/// Without duplicate address detection, which would hold the address back for a second.
pub(crate) fn add_ipv6(netns: &Netns, ip: Ipv6Addr) -> Result<()> {
    netns.ip(&["addr", "add", &format!("{ip}/64"), "dev", "eth0", "nodad"])?;
    Ok(())
}
