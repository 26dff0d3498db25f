//! What a container sends, what the wire carries inside VXLAN and what the other container gets
//! are the same frames, byte by byte.

mod flows;

use anyhow::{Context as _, Result, ensure};
use overlay_common::net::MacAddr;
use tests::capture::{Capture, frames};
use tests::kernel_overlay::KernelOverlay;
use tests::lab::{Station, UNDERLAY};
use tests::netns::Netns;
use tests::open_vswitch::complete_packets;
use tests::wait::until;
use tests::workdir::WorkDir;

use crate::support::{CONVERGE, Container, StoreKind, World, mac_of};

const BLUE: u32 = 4242;
const SIX: u32 = 4246;

/// A container and what its `eth0` sees.
struct End {
    netns: Netns,
    mac: MacAddr,
    recording: Recording,
}

impl End {
    fn new(netns: Netns) -> Result<Self> {
        complete_packets(&netns)?;
        Ok(Self {
            mac: mac_of(&netns)?,
            recording: Recording::start(&netns, "")?,
            netns,
        })
    }
}

/// A capture that can be read while it goes on.
struct Recording {
    capture: Capture,
    _folder: WorkDir,
}

impl Recording {
    fn start(netns: &Netns, filter: &str) -> Result<Self> {
        let folder = WorkDir::new("wire")?;
        Ok(Self {
            capture: Capture::bursts(netns, UNDERLAY, filter, folder.path())?,
            _folder: folder,
        })
    }

    fn frames(&self) -> Result<Vec<Vec<u8>>> {
        frames(self.capture.file())
    }
}

/// Two agents' hosts with a container of an IPv4 and of an IPv6 network each, and a Linux host
/// with one of the IPv4 network.
struct Bench {
    one: End,
    two: End,
    linux: End,
    six_one: End,
    six_two: End,
    /// The underlay device of the first host.
    wire: Recording,
    _world: World,
}

/// Frames of one kind, by their inner bytes.
struct Flow {
    name: &'static str,
    /// Which frames belong to it.
    select: fn(&[u8]) -> bool,
    run: fn(&Bench) -> Result<()>,
    ends: fn(&Bench) -> [&End; 2],
    /// How many there are at least, each way.
    least: [usize; 2],
}

#[test]
fn carries_the_same_inner_packets() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let station = world.lab.station("linux")?;
    let mut linux = KernelOverlay::new(&station, BLUE)?;
    let bench = bench(world, &station, &mut linux)?;
    for flow in &flows::ALL {
        (flow.run)(&bench).with_context(|| format!("{}: traffic", flow.name))?;
        until(CONVERGE, || same(&bench, flow)).with_context(|| flow.name.to_owned())?;
    }
    ensure!(flows::ALL.len() >= 10);
    Ok(())
}

fn bench(world: World, station: &Station, linux: &mut KernelOverlay<'_>) -> Result<Bench> {
    let [blue, six] = [BLUE, SIX].map(|vni| vni.to_string());
    world.create_network("blue", &["--subnet", "10.9.0.0/24", "--vni", &blue])?;
    world.create_network("six", &["--subnet", "fd00:9::/64", "--vni", &six])?;
    let end = |n| -> Result<End> {
        let container: Container = world.container(n, "blue", &format!("blue{n}"))?;
        End::new(container.netns)
    };
    let (one, two) = (end(1)?, end(2)?);
    let six_end = |n: usize| -> Result<End> {
        let netns = world.host(n).container("six")?;
        let path = netns.path();
        let path = path.to_str().context("path")?;
        let ip = flows::six(n).to_string();
        let endpoint = ["endpoint", "add", "--network", "six", "--netns", path];
        let more = ["--ip", &ip, "--mac", flows::SIX_MACS[n - 1]];
        world.host(n).cli_ok(&[&endpoint[..], &more].concat())?;
        // Who answers neighbour solicitations is not the question here.
        let (other, mac) = (flows::six(3 - n).to_string(), flows::SIX_MACS[2 - n]);
        netns.ip(&["neigh", "replace", &other, "lladdr", mac, "dev", "eth0"])?;
        End::new(netns)
    };
    let (six_one, six_two) = (six_end(1)?, six_end(2)?);

    let theirs = linux.container(flows::LINUX, flows::LINUX_MAC)?;
    linux.remote("00:00:00:00:00:00", world.host(1).ip())?;
    let host1 = world.host(1);
    let vtep = station.ip.to_string();
    host1.cli_ok(&["node", "add", "linux", "--vtep", &vtep])?;
    let ip = flows::LINUX.to_string();
    let endpoint = ["--network", "blue", "--ip", &ip, "--mac", flows::LINUX_MAC];
    host1.cli_ok(&[&["endpoint", "add", "--node", "linux"][..], &endpoint].concat())?;

    Ok(Bench {
        wire: Recording::start(host1.netns(), "udp port 4789")?,
        linux: End::new(theirs)?,
        one,
        two,
        six_one,
        six_two,
        _world: world,
    })
}

/// Each way: the sender's frames are the tunnelled ones and the receiver's. Two CPUs may have
/// swapped some.
fn same(bench: &Bench, flow: &Flow) -> Result<()> {
    let [here, there] = (flow.ends)(bench);
    let carried = bench.wire.frames()?;
    let carried: Vec<Vec<u8>> = carried
        .iter()
        .map(|frame| decapsulated(frame))
        .collect::<Result<_>>()?;
    for (from, to, least) in [(here, there, flow.least[0]), (there, here, flow.least[1])] {
        let of_flow = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let sent_there = |frame: &&Vec<u8>| {
                frame.len() >= 14
                    && frame[..6] == to.mac.0
                    && frame[6..12] == from.mac.0
                    && (flow.select)(frame)
            };
            let mut frames: Vec<_> = frames.iter().filter(sent_there).cloned().collect();
            frames.sort_unstable();
            frames
        };
        let sent = of_flow(&from.recording.frames()?);
        ensure!(
            sent.len() >= least,
            "{} of {least} frames were sent",
            sent.len()
        );
        for (place, seen) in [
            ("on the wire", of_flow(&carried)),
            ("received", of_flow(&to.recording.frames()?)),
        ] {
            ensure!(
                seen.len() == sent.len(),
                "{} frames sent, {} {place}, the longest of {:?} bytes",
                sent.len(),
                seen.len(),
                seen.iter().map(Vec::len).max()
            );
            for (n, (seen, sent)) in seen.iter().zip(&sent).enumerate() {
                ensure!(
                    seen == sent,
                    "frame {n} {place} differs:\n{seen:02x?}\nwas sent as\n{sent:02x?}"
                );
            }
        }
    }
    Ok(())
}

/// The inner frame of a recorded VXLAN packet, by a parser that is not ours.
fn decapsulated(frame: &[u8]) -> Result<Vec<u8>> {
    let outer = etherparse::SlicedPacket::from_ethernet(frame).context("outer headers")?;
    let Some(etherparse::TransportSlice::Udp(udp)) = outer.transport else {
        anyhow::bail!("no UDP in {:?}", outer.net);
    };
    ensure!(udp.destination_port() == 4789, "to another port");
    let (header, inner) = udp.payload().split_at_checked(8).context("VXLAN header")?;
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    ensure!(header[0] == 8 && header[7] == 0, "header {header:02x?}");
    ensure!(vni == BLUE || vni == SIX, "VNI {vni}");
    Ok(inner.to_vec())
}
