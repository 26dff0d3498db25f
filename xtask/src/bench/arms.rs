//! The data paths that are compared, each on two hosts of its own.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use tests::{
    bare_redirect::BareRedirect,
    docker::Docker,
    lab::{Host, Lab},
    netns::Netns,
    store::EmbeddedStore,
    traffic::ping::ping,
    wait::until,
};

use super::{containers, link::Link, swarm};

/// One data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Arm {
    /// Host to host on the bare underlay
    #[value(name = "B")]
    B,
    /// Container to container by bare redirects, with no encapsulation: the floor
    #[value(name = "R")]
    R,
    /// Container to container through the kernel's bridge and vxlan device, as Docker's overlay
    #[value(name = "K")]
    K,
    /// Container to container through the overlay network of a Docker Swarm; gets Docker's packages
    #[value(name = "D")]
    D,
    /// Container to container through this project
    #[value(name = "S")]
    S,
    /// The same with its filter in XDP, natively; for `junk_flood_rtt` only
    #[value(name = "X")]
    X,
}

impl Arm {
    /// Those that need nothing from elsewhere.
    pub(super) const DEFAULT: [Self; 5] = [Self::B, Self::R, Self::K, Self::S, Self::X];

    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::B => "B",
            Self::R => "R",
            Self::K => "K",
            Self::D => "D",
            Self::S => "S",
            Self::X => "X",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::B => "B (bare underlay)",
            Self::R => "R (bare redirect)",
            Self::K => "K (kernel bridge + vxlan)",
            Self::D => "D (Docker Swarm overlay)",
            Self::S => "S (this project)",
            Self::X => "X (this project, XDP native)",
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
    /// On whose cable it is.
    pub(super) hosts: [&'a Host; 2],
    /// Of the overlay's network, if there is one.
    pub(super) vni: u32,
    /// For logs.
    pub(super) folder: &'a std::path::Path,
}

/// Two containers that reach each other. Dropped in this order.
#[derive(Debug)]
pub(super) struct Containers {
    pub(super) ends: [Netns; 2],
    /// Of the second one.
    pub(super) address: Ipv4Addr,
    /// Of their network; 0 where nothing needs to know.
    pub(super) vni: u32,
    pub(super) _behind: Behind,
}

/// What carries their traffic and is not the hosts' own.
#[expect(dead_code, reason = "kept until it is dropped")]
#[derive(Debug)]
pub(super) enum Behind {
    Nothing,
    Redirects([BareRedirect; 2]),
    Dockers(Box<[Docker; 2]>),
    Store(EmbeddedStore),
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
            Arm::R => Some(containers::redirected(hosts(&lab)?)?),
            Arm::K => Some(containers::kernel(hosts(&lab)?)?),
            Arm::D => Some(swarm::containers(hosts(&lab)?)?),
            Arm::S => Some(containers::ours(&mut lab, &folder, &[])?),
            Arm::X => Some(containers::ours(&mut lab, &folder, &["--xdp", "native"])?),
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

    /// Makes another link of its hosts' cable.
    pub(super) fn set_link(&self, link: Link) -> Result<()> {
        self.lab.hosts.iter().try_for_each(|host| link.set(host))
    }

    pub(super) fn path(&self) -> Result<Path<'_>> {
        let [one, two] = hosts(&self.lab)?;
        let (from, to, address, vni) = match &self.containers {
            Some(Containers {
                ends: [from, to],
                address,
                vni,
                ..
            }) => (from, to, *address, *vni),
            None => (one.netns(), two.netns(), two.ip(), 0),
        };
        Ok(Path {
            from,
            to,
            address: address.into(),
            hosts: [one, two],
            vni,
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
