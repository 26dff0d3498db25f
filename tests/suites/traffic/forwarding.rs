//! A container that passes on what it gets: super-packets leave it as correct segments.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tests::capture::{Capture, fields};
use tests::lab::UNDERLAY;
use tests::metrics::snmp;
use tests::netns::Netns;
use tests::open_vswitch::complete_packets;
use tests::traffic::ping::ping;
use tests::traffic::tcp::transfer;
use tests::wait::until;
use tests::workdir::WorkDir;

use crate::support::{CONVERGE, StoreKind, World, mac_of};

use super::fallbacks;
use super::segments::Large;
use super::xdp_decap;

const BYTES: u64 = 48 << 20;
const CLIENT: &str = "10.20.0.2";
const GATEWAY: &str = "10.20.0.1/24";

/// A sender on one host, a router on the other, and a client behind the router's other device,
/// which cuts nothing itself.
struct Routed {
    sender: Netns,
    client: Netns,
    _router: Netns,
    // After the containers: their hosts' namespaces go last.
    world: World,
}

impl Routed {
    /// `router` are more options of the router's `endpoint add`.
    fn new(router_options: &[&str]) -> Result<Self> {
        Self::on(World::new(StoreKind::Embedded)?, router_options)
    }

    /// In a world whose agents run.
    fn on(world: World, router_options: &[&str]) -> Result<Self> {
        world.create_network("blue", &["--subnet", "10.8.0.0/24"])?;
        let router = world.host(2).container("router")?;
        let base = ["--name", "router", "--ip", "10.8.0.77"];
        let ip =
            world
                .host(2)
                .add_endpoint("blue", &router, &[&base[..], router_options].concat())?;
        // After the router, whose address it could have got.
        let sender = world.container(1, "blue", "sender")?.netns;
        let client = world.host(2).container("client")?;
        router.connect("lan0", &client, UNDERLAY)?;
        router.ip(&["addr", "add", GATEWAY, "dev", "lan0"])?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        let mut ethtool = router.command("ethtool")?;
        let off = ["-K", "lan0", "tso", "off", "gso", "off", "tx", "off"];
        tests::command::output(ethtool.args(off))?;
        client.ip(&["addr", "add", &format!("{CLIENT}/24"), "dev", UNDERLAY])?;
        client.ip(&["route", "add", "10.8.0.0/24", "via", "10.20.0.1"])?;
        // So that nobody's aggregates but the sender's are looked at.
        complete_packets(&client)?;

        let via = ip.to_string();
        sender.ip(&["route", "add", "10.20.0.0/24", "via", &via])?;
        ensure!(mac_of(&router)? != mac_of(&sender)?);
        until(CONVERGE, || {
            let summary = ping(&sender, CLIENT.parse()?, 1)?;
            ensure!(summary.lost() == 0, "the client does not answer");
            Ok(())
        })?;
        Ok(Self {
            sender,
            client,
            _router: router,
            world,
        })
    }

    /// Sends; how many segments had to be sent again, and how many aggregates took the slow path.
    fn send(&self) -> Result<(u64, u64)> {
        let (retransmits, forwarding) = (self.retransmits()?, self.forwarding()?);
        let folder = WorkDir::new("segments")?;
        let filter = format!("tcp and dst host {CLIENT}");
        let capture = Capture::headers(&self.client, UNDERLAY, &filter, folder.path())?;
        let address = SocketAddr::new(CLIENT.parse()?, 5001);
        transfer(&self.sender, &self.client, address, BYTES)?.verify()?;
        let file = capture.stop()?;
        let longest = fields(&file, "", &["ip.len"])?
            .into_iter()
            .map(|row| row[0].parse::<u64>().context("ip.len"))
            .try_fold(0, |longest, length| {
                Ok::<_, anyhow::Error>(longest.max(length?))
            })?;
        ensure!(longest > 1000, "no segments were seen");
        ensure!(
            longest <= 1450,
            "a segment of {longest} bytes left the router"
        );
        Ok((
            self.retransmits()? - retransmits,
            self.forwarding()? - forwarding,
        ))
    }

    fn retransmits(&self) -> Result<u64> {
        snmp(&self.sender, "Tcp", "RetransSegs")
    }

    fn forwarding(&self) -> Result<u64> {
        fallbacks(self.world.host(2), "rx", "forwarding")
    }
}

/// Not told that it forwards: the kernel's segmentation copes, at the price of retransmits.
#[test]
fn aggregates_leave_as_segments() -> Result<()> {
    let routed = Routed::new(&["--allow-ip", CLIENT])?;
    let (retransmits, forwarding) = routed.send()?;
    println!("{BYTES} bytes: {retransmits} segments sent again");
    ensure!(forwarding == 0, "{forwarding} on the slow path");
    Ok(())
}

/// Told that it forwards: the kernel takes the tunnel off, and its own marks with it.
#[test]
fn aggregates_for_a_router_take_the_slow_path() -> Result<()> {
    let routed = Routed::new(&["--allow-ip", CLIENT, "--forwarding"])?;
    let (retransmits, forwarding) = routed.send()?;
    println!("{BYTES} bytes: {retransmits} segments sent again");
    ensure!(forwarding > 0, "the fast path took all of it");
    Ok(())
}

/// Taken out of their tunnel in XDP, segments are merged by the kernel as if they had never been in one.
#[test]
fn aggregates_behind_xdp_leave_as_segments() -> Result<()> {
    let routed = Routed::on(xdp_decap::world()?, &["--allow-ip", CLIENT, "--forwarding"])?;
    let host = routed.world.host(2).netns();
    let merged = Large::start(host, UNDERLAY, &format!("tcp and dst host {CLIENT}"))?;
    let (retransmits, forwarding) = routed.send()?;
    println!("{BYTES} bytes: {retransmits} segments sent again");
    let merged = merged.stop()?;
    ensure!(merged > BYTES / 4, "{merged} bytes were in super-packets");
    ensure!(forwarding == 0, "{forwarding} on the slow path");
    Ok(())
}
