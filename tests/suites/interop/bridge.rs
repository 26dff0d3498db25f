//! Against a plain Linux host: bridge, vxlan device, static forwarding entries, no agent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use tests::capture::{Capture, fields};
use tests::kernel_overlay::KernelOverlay;
use tests::lab::{Family, UNDERLAY};
use tests::traffic::tcp::transfer;
use tests::traffic::udp::{self, UdpCounter};

use crate::support::{Container, World, network, reachable};

const VNI: u32 = 4242;
const LINUX_IP: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 50);
const LINUX_MAC: &str = "02:00:0a:07:00:32";

#[test]
fn with_a_linux_bridge_and_vxlan() -> Result<()> {
    with_linux(Family::V4)
}

#[test]
fn with_a_linux_bridge_and_vxlan_over_ipv6() -> Result<()> {
    with_linux(Family::V6)
}

fn with_linux(underlay: Family) -> Result<()> {
    // Host 2 has no agent.
    let mut world = World::over_without_agents(&[&[underlay][..]; 2])?;
    world.start(1, &[])?;
    let (host1, host2) = (world.host(1), world.host(2));
    let vni = VNI.to_string();
    let subnet = ["--subnet", "10.7.0.0/24", "--vni", &vni];
    host1.cli_ok(&[&["network", "create", "mixed"][..], &subnet].concat())?;
    ensure!(network(host1, "mixed")?["vni"] == VNI);

    let [source, vtep] = [host1, host2].map(|host| host.station.address_of(underlay));
    let mut linux = KernelOverlay::with(&host2.station, VNI, vtep, options(underlay))?;
    let theirs = Container {
        netns: linux.container(LINUX_IP, LINUX_MAC)?,
        ip: LINUX_IP,
        mac: LINUX_MAC.parse()?,
    };
    // All it is told: where broadcasts and unknown MACs go.
    linux.remote("00:00:00:00:00:00", source)?;
    let vtep = vtep.to_string();
    host1.cli_ok(&["node", "add", "linux", "--vtep", &vtep])?;
    let ip = LINUX_IP.to_string();
    let by_hand = ["--network", "mixed", "--ip", &ip, "--mac", LINUX_MAC];
    host1.cli_ok(&[&["endpoint", "add", "--node", "linux"][..], &by_hand].concat())?;
    let ours = world.container(1, "mixed", "ours")?;

    let capture = Capture::start(
        host2.netns(),
        UNDERLAY,
        "udp dst port 4789",
        world.work.path(),
    )?;
    // The Linux side asks by broadcast who has our address.
    reachable(&theirs, &ours, 10)?;
    reachable(&ours, &theirs, 10)?;
    for port in 6000..6016 {
        let to = (IpAddr::V4(LINUX_IP), port).into();
        let _listener = UdpCounter::start(&theirs.netns, to, None)?;
        udp::send(&ours.netns, to, 100, 5, std::time::Duration::ZERO)?;
    }
    let file = capture.stop()?;
    transfer(&ours.netns, &theirs.netns, theirs.address(5001), 256 << 20)?.verify()?;
    transfer(&theirs.netns, &ours.netns, ours.address(5001), 256 << 20)?.verify()?;

    decoded(&file, source)
}

/// What a Linux host has to be told to take our packets: over IPv6 it wants a checksum.
fn options(underlay: Family) -> &'static [&'static str] {
    match underlay {
        Family::V4 => &[],
        Family::V6 => &["udp6zerocsumrx"],
    }
}

/// A dissector that is not ours finds well-formed VXLAN, and source ports that follow the flow.
fn decoded(file: &std::path::Path, source: IpAddr) -> Result<()> {
    let (family, df) = match source {
        IpAddr::V4(_) => ("ip", "ip.flags.df"),
        // Nobody on the way fragments IPv6.
        IpAddr::V6(_) => ("ipv6", "ipv6.version"),
    };
    let ours = format!("{family}.src == {source} && udp.dstport == 4789");
    let errors = if source.is_ipv4() {
        "_ws.expert.severity == error"
    } else {
        "_ws.expert.severity == error && !(udp.checksum == 0)"
    };
    let malformed = fields(
        file,
        // A checksum of zero over IPv6 is an error to the dissector (RFC 2460), and none to us.
        &format!("{ours} && (_ws.malformed || !vxlan || ({errors}))"),
        &["frame.number"],
    )?;
    ensure!(malformed.is_empty(), "malformed frames: {malformed:?}");
    let columns = [
        "udp.srcport",
        "udp.checksum",
        "vxlan.flags",
        "vxlan.vni",
        "vxlan.reserved8",
        df,
    ];
    let frames = fields(file, &ours, &columns)?;
    ensure!(frames.len() > 80, "only {} frames of ours", frames.len());
    for frame in &frames {
        let port: u16 = frame[0].parse().context("source port")?;
        ensure!(port >= 49152, "source port {port}");
        ensure!(frame[1] == "0x0000", "UDP checksum {}", frame[1]);
        ensure!(frame[2] == "0x0800", "flags {}", frame[2]);
        ensure!(frame[3] == VNI.to_string(), "VNI {}", frame[3]);
        ensure!(frame[4] == "0", "reserved byte {}", frame[4]);
        ensure!(
            ["1", "True", "6"].contains(&&*frame[5]),
            "may be fragmented: {}",
            frame[5]
        );
    }

    // By inner flow: the last occurrence of a field is the inner one.
    let mut ports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for inner_port in 6000..6016 {
        let flow = format!("{ours} && udp.dstport == {inner_port}");
        for frame in fields(file, &flow, &["udp.srcport"])? {
            ports
                .entry(inner_port.to_string())
                .or_default()
                .insert(frame[0].clone());
        }
    }
    ensure!(ports.len() == 16, "{} of 16 flows seen", ports.len());
    for (flow, ports) in &ports {
        ensure!(ports.len() == 1, "flow {flow} changes its port: {ports:?}");
    }
    let different: BTreeSet<_> = ports.values().flatten().collect();
    ensure!(
        different.len() >= 12,
        "16 flows share {} ports",
        different.len()
    );
    Ok(())
}
