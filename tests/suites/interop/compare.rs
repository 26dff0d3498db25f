//! One sender, two receivers: our agent's host, and a Linux host whose container has the same
//! addresses. Each packet goes to both, and both containers must get the same frames.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use overlay_common::FallbackCause;
use overlay_common::net::MacAddr;
use tests::kernel_overlay::KernelOverlay;
use tests::lab::{Family, Station, bridges_only_switch};
use tests::netns::Netns;
use tests::wait::until;

use super::outer::Ends;
use crate::support::{CONVERGE, PacketSocket, StoreKind, World, mac_of, udp_frame};

pub(super) const VNI: u32 = 4242;
pub(super) const SENDER: (MacAddr, Ipv4Addr) =
    (MacAddr([2, 0, 10, 7, 0, 50]), Ipv4Addr::new(10, 7, 0, 50));
pub(super) const RECEIVER: (MacAddr, Ipv4Addr) =
    (MacAddr([2, 0, 10, 7, 0, 2]), Ipv4Addr::new(10, 7, 0, 2));
/// Of the same two, for inner IPv6.
pub(super) const SENDER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 0x50);
pub(super) const RECEIVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 2);

/// To this port: the last frame of a case.
const MARKER_PORT: u16 = 9;
const ALL_PROTOCOLS: u16 = libc::ETH_P_ALL as u16;

/// Sender, our receiver, the Linux receiver.
pub(super) struct Comparison {
    world: World,
    sender: PacketSocket,
    ours: Receiver,
    linux: Receiver,
    marker: Vec<u8>,
    _stations: [Station; 2],
}

/// Where a container gets its frames, and how it is sent to.
struct Receiver {
    ends: Ends,
    frames: PacketSocket,
    _netns: Netns,
}

/// What one case did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ours: Vec<Vec<u8>>,
    pub(super) linux: Vec<Vec<u8>>,
    /// By label; only those that moved.
    pub(super) causes: BTreeMap<&'static str, u64>,
}

impl Comparison {
    pub(super) fn new(underlay: Family) -> Result<Self> {
        let mut world = World::without_agents(StoreKind::Embedded)?;
        let (source, linux) = (world.lab.station("source")?, world.lab.station("linux")?);
        if underlay == Family::V6 {
            for station in [&source, &linux, &world.host(1).station] {
                station.add_ipv6()?;
            }
            let vtep = world.host(1).station.ip6.into();
            world.host_mut(1).vteps = vec![vtep];
        }
        let url = world.store.url();
        world.host_mut(1).start_agent(&url)?;

        let host = world.host(1);
        let vni = VNI.to_string();
        let subnet = ["--subnet", "10.7.0.0/24", "--vni", &vni];
        host.cli_ok(&[&["network", "create", "mixed"][..], &subnet].concat())?;
        let vtep = source.address_of(underlay).to_string();
        host.cli_ok(&["node", "add", "source", "--vtep", &vtep])?;
        let (ip, mac) = (SENDER.1.to_string(), SENDER.0.to_string());
        let endpoint = ["--network", "mixed", "--ip", &ip, "--mac", &mac];
        host.cli_ok(&[&["endpoint", "add", "--node", "source"][..], &endpoint].concat())?;
        let netns = host.container("ours")?;
        let (ip, mac) = (RECEIVER.1.to_string(), RECEIVER.0.to_string());
        host.add_endpoint("mixed", &netns, &["--ip", &ip, "--mac", &mac])?;
        let ours = Receiver::new(&source, &host.station, underlay, netns)?;

        let local = linux.address_of(underlay);
        // IPv6 without a checksum is something a Linux receiver has to be told to take.
        let zero: &[&str] = match underlay {
            Family::V4 => &[],
            Family::V6 => &["udp6zerocsumrx"],
        };
        bridges_only_switch(&linux.netns)?;
        let mut overlay = KernelOverlay::with(&linux, VNI, local, zero)?;
        let netns = overlay.container(RECEIVER.1, &mac)?;
        let linux_end = Receiver::new(&source, &linux, underlay, netns)?;

        let sender = source.netns.run(|| PacketSocket::open(0))?;
        let this = Self {
            world,
            sender,
            ours,
            linux: linux_end,
            marker: udp_frame(SENDER, RECEIVER, MARKER_PORT)?,
            _stations: [source, linux],
        };
        for receiver in [&this.ours, &this.linux] {
            until(CONVERGE, || this.mark(receiver).map(drop))?;
        }
        Ok(this)
    }

    /// Sends what `make` makes for each receiver.
    pub(super) fn run(&self, make: impl Fn(&Ends) -> Result<Vec<Vec<u8>>>) -> Result<Outcome> {
        let before = self.causes()?;
        let deliver = |receiver: &Receiver| -> Result<Vec<Vec<u8>>> {
            for frame in make(&receiver.ends)? {
                self.sender.send(&frame)?;
            }
            self.mark(receiver)
        };
        let (ours, linux) = (deliver(&self.ours)?, deliver(&self.linux)?);
        let mut causes = self.causes()?;
        causes.retain(|cause, count| {
            *count -= before.get(cause).copied().unwrap_or_default();
            *count > 0
        });
        Ok(Outcome {
            ours,
            linux,
            causes,
        })
    }

    /// Sends the marker and gives the frames that arrived before it: packets of one sender to one
    /// receiver keep their order.
    fn mark(&self, receiver: &Receiver) -> Result<Vec<Vec<u8>>> {
        self.sender.send(&receiver.ends.vxlan(VNI, &self.marker)?)?;
        let mut frames = Vec::new();
        until(CONVERGE, || {
            loop {
                let frame = receiver
                    .frames
                    .receive()?
                    .context("the marker did not arrive")?;
                if frame == self.marker {
                    return Ok(());
                }
                // Not what the container itself says.
                if frame.get(6..12) == Some(&SENDER.0.0) {
                    frames.push(frame);
                }
            }
        })?;
        Ok(frames)
    }

    fn causes(&self) -> Result<BTreeMap<&'static str, u64>> {
        let metrics = self.world.host(1).metrics()?;
        let labels = FallbackCause::ALL.iter().map(|cause| cause.label());
        labels
            .map(|cause| {
                let labels = [("direction", "rx"), ("cause", cause)];
                let sum = metrics.sum("overlay_fallback_packets_total", &labels)?;
                Ok((cause, sum.unwrap_or_default() as u64))
            })
            .collect()
    }
}

impl Receiver {
    fn new(source: &Station, station: &Station, underlay: Family, netns: Netns) -> Result<Self> {
        let ends = Ends {
            source_mac: mac_of(&source.netns)?,
            destination_mac: mac_of(&station.netns)?,
            source: source.address_of(underlay),
            destination: station.address_of(underlay),
        };
        // It listens and says nothing.
        netns.ip(&["addr", "flush", "dev", "eth0"])?;
        Ok(Self {
            ends,
            frames: netns.run(|| PacketSocket::open(ALL_PROTOCOLS))?,
            _netns: netns,
        })
    }
}

impl Outcome {
    /// Both got the same, `delivered` frames of it, and just these causes moved.
    pub(super) fn expect(&self, delivered: usize, causes: &[(&'static str, u64)]) -> Result<()> {
        self.same(delivered)?;
        let wanted: BTreeMap<_, _> = causes.iter().copied().collect();
        ensure!(
            self.causes == wanted,
            "slow path: {:?}, expected {wanted:?}",
            self.causes
        );
        Ok(())
    }

    /// Both got the same, `delivered` frames of it, whichever way.
    pub(super) fn same(&self, delivered: usize) -> Result<()> {
        ensure!(
            self.ours == self.linux,
            "we deliver {:02x?}, Linux delivers {:02x?}",
            self.ours,
            self.linux
        );
        ensure!(
            self.ours.len() == delivered,
            "{} frames delivered, expected {delivered}",
            self.ours.len()
        );
        Ok(())
    }
}
