//! A Linux host as the sender, with the options of its vxlan device that change the outer packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::kernel_overlay::KernelOverlay;
use tests::lab::{Family, Station, UNDERLAY};
use tests::metrics::snmp;
use tests::netns::Netns;
use tests::traffic::tcp::transfer;
use tests::traffic::udp::{self, UdpCounter};
use tests::wait::until;

use crate::support::datagrams::{Receiver, send_segmented};
use crate::support::families::introduce;
use crate::support::{CONVERGE, Container, VXLAN_PORT, World, count, reachable, vxlan_payload};

const VNI: u32 = 4242;
const LINUX_IP: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 50);
const LINUX_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 0x50);
const LINUX_MAC: &str = "02:00:0a:07:00:32";
/// Where datagrams go.
const PORT: u16 = 7001;
const BYTES: u64 = 32 << 20;

/// A container behind our agent and one behind Linux' devices.
pub(super) struct Mixed {
    pub(super) ours: Container,
    pub(super) theirs: Container,
    world: World,
}

impl Mixed {
    /// `options` are those of the vxlan device; the underlay's MTU changes on the Linux side, once
    /// the two reach each other.
    pub(super) fn new(
        underlay: Family,
        options: &[&str],
        underlay_mtu: Option<&str>,
    ) -> Result<Self> {
        let mut world = World::over_without_agents(&[&[underlay][..]; 2])?;
        world.start(1, &[])?;
        let host = world.host(1);
        let linux: &Station = &world.host(2).station;
        let vni = VNI.to_string();
        let subnet = [
            "--subnet",
            "10.7.0.0/24",
            "--subnet",
            "fd00:7::/64",
            "--vni",
            &vni,
        ];
        host.cli_ok(&[&["network", "create", "mixed"][..], &subnet].concat())?;
        let vtep = linux.address_of(underlay);
        let mut overlay = KernelOverlay::with(linux, VNI, vtep, options)?;
        let theirs = Container {
            netns: overlay.container(LINUX_IP, LINUX_MAC)?,
            ip: LINUX_IP,
            mac: LINUX_MAC.parse()?,
        };
        overlay.remote("00:00:00:00:00:00", host.station.address_of(underlay))?;
        let vtep = vtep.to_string();
        host.cli_ok(&["node", "add", "linux", "--vtep", &vtep])?;
        let address = format!("{LINUX_IP6}/64");
        theirs
            .netns
            .ip(&["addr", "add", &address, "dev", "eth0", "nodad"])?;
        let (ip, ip6) = (LINUX_IP.to_string(), LINUX_IP6.to_string());
        let endpoint = [
            "--network",
            "mixed",
            "--ip",
            &ip,
            "--ip",
            &ip6,
            "--mac",
            LINUX_MAC,
        ];
        host.cli_ok(&[&["endpoint", "add", "--node", "linux"][..], &endpoint].concat())?;
        let ours = world.container(1, "mixed", "ours")?;
        introduce(&ours, &theirs)?;
        reachable(&theirs, &ours, 3)?;
        if let Some(mtu) = underlay_mtu {
            linux.netns.ip(&["link", "set", UNDERLAY, "mtu", mtu])?;
        }
        Ok(Self {
            ours,
            theirs,
            world,
        })
    }

    /// Sends datagrams that are fragmented on the underlay: each comes to the container's port.
    fn fragments(&self, from: &Netns, to: SocketAddr, payload: &[u8]) -> Result<()> {
        const DATAGRAMS: u64 = 100;
        let before = self.received("outer_fragment")?;
        let counter = UdpCounter::start(&self.ours.netns, self.ours.address(PORT), None)?;
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = from.run(|| Ok(UdpSocket::bind((any, 0))?))?;
        for _ in 0..DATAGRAMS {
            socket.send_to(payload, to)?;
        }
        arrived(&counter, DATAGRAMS)?;
        // The first fragment of each is the one that tells.
        let counted = self.received("outer_fragment")? - before;
        ensure!(counted == DATAGRAMS, "{counted} of {DATAGRAMS} counted");
        Ok(())
    }

    fn packets(&self) -> Result<u64> {
        let labels = [("direction", "rx")];
        count(self.world.host(1), "overlay_vni_packets_total", &labels)
    }

    pub(super) fn received(&self, cause: &str) -> Result<u64> {
        let labels = [("direction", "rx"), ("cause", cause)];
        count(
            self.world.host(1),
            "overlay_fallback_packets_total",
            &labels,
        )
    }
}

/// The tunnel's outer packets may be fragmented, and the underlay's MTU is too small for them.
#[test]
fn outer_fragments() -> Result<()> {
    let mixed = Mixed::new(Family::V4, &["df", "unset"], Some("1000"))?;
    // A bridge port answers what is too big with "fragmentation needed", unless it may be
    // fragmented inside: then it fragments outside.
    mixed.theirs.netns.sysctl("net.ipv4.ip_no_pmtu_disc", "1")?;
    mixed.fragments(&mixed.theirs.netns, mixed.ours.address(PORT), &[0x5a; 1300])
}

/// Linux' vxlan device fragments nothing over IPv6, but for a tunnel in user space the kernel does.
#[test]
fn outer_fragments_over_ipv6() -> Result<()> {
    let mixed = Mixed::new(Family::V6, &["udp6zerocsumrx"], Some("1280"))?;
    let mut inner = Vec::new();
    etherparse::PacketBuilder::ethernet2(mixed.theirs.mac.0, mixed.ours.mac.0)
        .ipv4(LINUX_IP.octets(), mixed.ours.ip.octets(), 64)
        .udp(5555, PORT)
        .write(&mut inner, &[0x5a; 1300])?;
    let host = mixed.world.host(1).station.ip6;
    let linux = mixed.world.host(2).netns();
    mixed.fragments(
        linux,
        (host, VXLAN_PORT).into(),
        &vxlan_payload(VNI, &inner),
    )
}

/// Of a device that computes them, as over a wire, and of one that leaves them to nobody.
#[test]
fn outer_udp_checksums() -> Result<()> {
    checksums(Family::V4, &["udpcsum"])
}

/// Linux' own way over IPv6.
#[test]
fn outer_udp_checksums_over_ipv6() -> Result<()> {
    checksums(Family::V6, &["udp6zerocsumrx"])
}

fn checksums(underlay: Family, options: &[&str]) -> Result<()> {
    let mixed = Mixed::new(underlay, options, None)?;
    let linux = mixed.world.host(2).netns();
    for computed in ["off", "on"] {
        let mut ethtool = linux.command("ethtool")?;
        tests::command::output(ethtool.args(["-K", UNDERLAY, "tx", computed]))?;
        let before = mixed.received("outer_checksum")?;
        let to = mixed.ours.address(5001);
        transfer(&mixed.theirs.netns, &mixed.ours.netns, to, BYTES)?.verify()?;
        reachable(&mixed.theirs, &mixed.ours, 10)?;
        let counted = mixed.received("outer_checksum")? - before;
        ensure!(computed == "on" || counted > 0, "nothing was tested");
    }
    Ok(())
}

/// A sender that hands many datagrams to its kernel at once: they cross the underlay whole.
#[test]
fn aggregates_of_datagrams() -> Result<()> {
    aggregates(Family::V4)
}

#[test]
fn aggregates_of_datagrams_over_ipv6() -> Result<()> {
    aggregates(Family::V6)
}

fn aggregates(underlay: Family) -> Result<()> {
    const SEGMENT: u16 = 1200;
    const PIECES: usize = 30;
    const TIMES: usize = 20;
    let mixed = Mixed::new(underlay, zero_checksums(underlay), None)?;
    let (before, packets) = (mixed.received("inner_aggregate")?, mixed.packets()?);
    let to = mixed.ours.address(7002);
    let receiver = Receiver::bind(&mixed.ours.netns, to)?;
    let (from, length) = (&mixed.theirs.netns, usize::from(SEGMENT) * PIECES);
    let sent = send_segmented(from, to, SEGMENT, TIMES, length)?;
    let count = sent.len() as u64;
    receiver.expect(sent)?;
    // Whole on the slow path, and yet each datagram counts.
    let aggregates = mixed.received("inner_aggregate")? - before;
    ensure!(aggregates == TIMES as u64, "{aggregates} aggregates");
    let packets = mixed.packets()? - packets;
    ensure!(packets == count, "{packets} packets counted");
    Ok(())
}

/// What the container's own kernel finds wrong stays wrong: nobody on the way repairs a checksum,
/// whether it is there in full or left to a device.
#[test]
fn a_wrong_inner_checksum_stays_wrong() -> Result<()> {
    wrong_inner_checksums(Family::V4, &["udpcsum"])
}

#[test]
fn a_wrong_inner_checksum_stays_wrong_over_ipv6() -> Result<()> {
    wrong_inner_checksums(Family::V6, &["udp6zerocsumrx"])
}

fn wrong_inner_checksums(underlay: Family, options: &[&str]) -> Result<()> {
    const DATAGRAMS: u64 = 50;
    let mixed = Mixed::new(underlay, options, None)?;
    for (from, to) in [(&mixed.theirs, &mixed.ours), (&mixed.ours, &mixed.theirs)] {
        let address = to.address(7003);
        let counter = UdpCounter::start(&to.netns, address, None)?;
        let errors = checksum_errors(to)?;
        let mut frame = crate::support::udp_frame((from.mac, from.ip), (to.mac, to.ip), 7003)?;
        // The UDP checksum, Ethernet and IPv4 before it.
        frame[40] ^= 0x55;
        for _ in 0..DATAGRAMS {
            crate::support::send_raw(&from.netns, &frame)?;
        }
        until(CONVERGE, || {
            let counted = checksum_errors(to)? - errors;
            ensure!(counted == DATAGRAMS, "{counted} of {DATAGRAMS} found wrong");
            Ok(())
        })?;
        // The right ones of a sender whose checksums are left to the device do arrive.
        udp::send(&from.netns, address, 100, DATAGRAMS, Duration::ZERO)?;
        arrived(&counter, DATAGRAMS)?;
        ensure!(checksum_errors(to)? - errors == DATAGRAMS);
    }
    Ok(())
}

/// What a container's UDP found to have a wrong checksum.
fn checksum_errors(container: &Container) -> Result<u64> {
    snmp(&container.netns, "Udp", "InCsumErrors")
}

/// Of a Linux host that sends no outer checksums, and takes packets without one.
pub(super) fn zero_checksums(underlay: Family) -> &'static [&'static str] {
    match underlay {
        Family::V4 => &["noudpcsum"],
        Family::V6 => &["udp6zerocsumtx", "udp6zerocsumrx"],
    }
}

fn arrived(counter: &UdpCounter, wanted: u64) -> Result<()> {
    until(CONVERGE, || {
        let received = counter.received();
        ensure!(received == wanted, "{received} of {wanted} arrived");
        Ok(())
    })
}
