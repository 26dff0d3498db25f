//! Containers that reach each other by nothing but eBPF redirects: no encapsulation, no look-up, no
//! check. What an overlay of redirects cannot beat.

use std::{net::Ipv4Addr, os::fd::OwnedFd};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;

use crate::{
    bpf::{
        Hook,
        redirect::{Way, always},
    },
    kernel_overlay::MTU,
    lab::{Station, UNDERLAY},
    netns::Netns,
};

/// The host's end of the container's cable.
const PORT: &str = "c0";

/// The redirects of one host, there until this is dropped.
#[derive(Debug)]
pub struct BareRedirect {
    _links: [OwnedFd; 2],
}

/// A container's MAC and address.
pub type Identity<'a> = (&'a str, Ipv4Addr);

impl BareRedirect {
    /// The only container of a host, with `eth0`; it knows the other host's without asking. Whatever
    /// comes in by the underlay is the container's: the host itself cannot be reached there any more.
    ///
    /// The MTU is that of an overlay's container, so that as many frames carry as many bytes.
    pub fn container(
        station: &Station,
        (mac, ip): Identity<'_>,
        (other_mac, other_ip): Identity<'_>,
    ) -> Result<(Netns, Self)> {
        let host = &station.netns;
        let container = Netns::new(&format!("{}-{PORT}", station.label))?;
        container.connect("eth0", host, PORT)?;
        host.ip(&["link", "set", PORT, "mtu", MTU])?;
        container.ip(&["link", "set", "eth0", "address", mac, "mtu", MTU])?;
        container.ip(&["addr", "add", &format!("{ip}/24"), "dev", "eth0"])?;
        let neighbor = [
            "neigh",
            "add",
            &other_ip.to_string(),
            "lladdr",
            other_mac,
            "dev",
            "eth0",
        ];
        container.ip(&neighbor)?;
        let links = host.run(|| {
            let (port, underlay) = (index(PORT)?, index(UNDERLAY)?);
            Ok([
                always(Hook::Tc, Way::Out, underlay)?.attach(port)?,
                always(Hook::Tc, Way::Peer, port)?.attach(underlay)?,
            ])
        })?;
        Ok((container, Self { _links: links }))
    }
}

/// Of a device of the calling thread's network namespace.
fn index(device: &str) -> Result<u32> {
    if_nametoindex(device).with_context(|| format!("find the device {device}"))
}
