//! Two containers on two hosts, and what carries their traffic.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::Result;
use tests::{
    bare_redirect::BareRedirect,
    kernel_overlay::KernelOverlay,
    lab::{Host, Lab},
    store::EmbeddedStore,
    wait::until,
};

use super::arms::{Behind, Containers};

pub(super) const SUBNET: &str = "10.99.0.0/24";
const IPS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 11), Ipv4Addr::new(10, 99, 0, 12)];
const VNI: u32 = 99;
const MACS: [&str; 2] = ["02:00:0a:63:00:0b", "02:00:0a:63:00:0c"];

/// Unknown destinations and broadcast in a vxlan device's forwarding table.
const FLOOD: &str = "00:00:00:00:00:00";

/// Through redirects alone.
pub(super) fn redirected(hosts: [&Host; 2]) -> Result<Containers> {
    let [one, two] = hosts.map(|host| &host.station);
    let (first, second) = ((MACS[0], IPS[0]), (MACS[1], IPS[1]));
    let (from, redirect1) = BareRedirect::container(one, first, second)?;
    let (to, redirect2) = BareRedirect::container(two, second, first)?;
    Ok(Containers {
        ends: [from, to],
        address: IPS[1],
        vni: 0,
        _behind: Behind::Redirects([redirect1, redirect2]),
    })
}

/// Through the kernel's own overlay.
pub(super) fn kernel(hosts: [&Host; 2]) -> Result<Containers> {
    let [one, two] = hosts;
    let (mut overlay1, mut overlay2) = (
        KernelOverlay::new(&one.station, VNI)?,
        KernelOverlay::new(&two.station, VNI)?,
    );
    let ends = [
        overlay1.container(IPS[0], MACS[0])?,
        overlay2.container(IPS[1], MACS[1])?,
    ];
    for mac in [MACS[1], FLOOD] {
        overlay1.remote(mac, two.ip())?;
    }
    for mac in [MACS[0], FLOOD] {
        overlay2.remote(mac, one.ip())?;
    }
    Ok(Containers {
        ends,
        address: IPS[1],
        vni: VNI,
        _behind: Behind::Nothing,
    })
}

/// Through the command line, as everybody does it, with more arguments of the agents. The store runs on
/// the first host.
pub(super) fn ours(lab: &mut Lab, folder: &Path, more: &[&str]) -> Result<Containers> {
    const NETWORK: &str = "bench";
    let (one, two) = lab.pair()?;
    let store = EmbeddedStore::start(one.netns(), one.ip().into(), folder)?;
    for host in [&mut *one, &mut *two] {
        host.start_agent_with(&store.url(), more)?;
    }
    let vni = VNI.to_string();
    let create = ["network", "create", NETWORK, "--subnet", SUBNET];
    one.cli_ok(&[&create[..], &["--vni", &vni]].concat())?;
    let ends = [one.container("c1")?, two.container("c2")?];
    for ((host, container), ip) in [one, two].into_iter().zip(&ends).zip(IPS) {
        let ip = ip.to_string();
        // The other host sees the network a moment after it was created.
        until(Duration::from_secs(15), || {
            host.add_endpoint(NETWORK, container, &["--ip", &ip])
        })?;
    }
    Ok(Containers {
        ends,
        address: IPS[1],
        vni: VNI,
        _behind: Behind::Store(store),
    })
}
