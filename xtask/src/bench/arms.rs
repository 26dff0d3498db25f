//! The data paths that are compared, each on two hosts of its own.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use tests::{
    docker::Docker,
    kernel_overlay::KernelOverlay,
    lab::{Host, Lab},
    netns::Netns,
    store::EmbeddedStore,
    traffic::ping::ping,
    wait::until,
};

use super::swarm;

pub(super) const SUBNET: &str = "10.99.0.0/24";
const IPS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 11), Ipv4Addr::new(10, 99, 0, 12)];
const MACS: [&str; 2] = ["02:00:0a:63:00:0b", "02:00:0a:63:00:0c"];

/// Unknown destinations and broadcast in a vxlan device's forwarding table.
const FLOOD: &str = "00:00:00:00:00:00";

/// One data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Arm {
    /// Host to host on the bare underlay
    #[value(name = "B")]
    B,
    /// Container to container through the kernel's bridge and vxlan device, as Docker's overlay
    #[value(name = "K")]
    K,
    /// Container to container through the overlay network of a Docker Swarm; gets Docker's packages
    #[value(name = "D")]
    D,
    /// Container to container through this project
    #[value(name = "S")]
    S,
}

impl Arm {
    /// Those that need nothing from elsewhere.
    pub(super) const DEFAULT: [Self; 3] = [Self::B, Self::K, Self::S];

    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::B => "B",
            Self::K => "K",
            Self::D => "D",
            Self::S => "S",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::B => "B (bare underlay)",
            Self::K => "K (kernel bridge + vxlan)",
            Self::D => "D (Docker Swarm overlay)",
            Self::S => "S (this project)",
        }
    }
}

/// From where to where traffic goes.
#[derive(Debug)]
pub(super) struct Path<'a> {
    pub(super) from: &'a Netns,
    pub(super) to: &'a Netns,
    /// The address of `to`.
    pub(super) address: IpAddr,
    /// For logs.
    pub(super) folder: &'a std::path::Path,
}

/// Two containers that reach each other. Dropped in this order.
#[derive(Debug)]
pub(super) struct Containers {
    pub(super) ends: [Netns; 2],
    /// Of the second one.
    pub(super) address: Ipv4Addr,
    pub(super) _store: Option<EmbeddedStore>,
    pub(super) _dockers: Option<[Docker; 2]>,
}

/// A data path that carries traffic. Dropped in this order: containers first, hosts last.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) arm: Arm,
    /// None where the hosts themselves are the ends.
    containers: Option<Containers>,
    lab: Lab,
    folder: PathBuf,
}

impl Setup {
    /// Builds it, and returns once a packet gets through.
    pub(super) fn new(arm: Arm, folder: PathBuf) -> Result<Self> {
        let mut lab = Lab::direct()?;
        let containers = match arm {
            Arm::B => None,
            Arm::K => Some(kernel_containers(&lab)?),
            Arm::D => Some(swarm::containers(hosts(&lab)?)?),
            Arm::S => Some(our_containers(&mut lab, &folder)?),
        };
        let setup = Self {
            arm,
            containers,
            lab,
            folder,
        };
        let path = setup.path()?;
        until(Duration::from_secs(15), || {
            ensure!(
                ping(path.from, path.address, 1)?.received == 1,
                "no answer to a ping"
            );
            Ok(())
        })?;
        Ok(setup)
    }

    pub(super) fn path(&self) -> Result<Path<'_>> {
        let [one, two] = hosts(&self.lab)?;
        let (from, to, address) = match &self.containers {
            Some(Containers {
                ends: [from, to],
                address,
                ..
            }) => (from, to, *address),
            None => (one.netns(), two.netns(), two.ip()),
        };
        Ok(Path {
            from,
            to,
            address: address.into(),
            folder: &self.folder,
        })
    }
}

fn hosts(lab: &Lab) -> Result<[&Host; 2]> {
    match lab.hosts.as_slice() {
        [one, two] => Ok([one, two]),
        hosts => bail!("{} hosts where two are needed", hosts.len()),
    }
}

fn kernel_containers(lab: &Lab) -> Result<Containers> {
    const VNI: u32 = 99;
    let [one, two] = hosts(lab)?;
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
        _store: None,
        _dockers: None,
    })
}

/// Through the command line, as everybody does it. The store runs on the first host.
fn our_containers(lab: &mut Lab, folder: &std::path::Path) -> Result<Containers> {
    const NETWORK: &str = "bench";
    let (one, two) = lab.pair()?;
    let store = EmbeddedStore::start(one.netns(), one.ip().into(), folder)?;
    for host in [&mut *one, &mut *two] {
        host.start_agent(&store.url())?;
    }
    one.cli_ok(&["network", "create", NETWORK, "--subnet", SUBNET])?;
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
        _store: Some(store),
        _dockers: None,
    })
}
