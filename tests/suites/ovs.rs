//! Against Open vSwitch's user space data path, which knows nothing of us: a tunnel port, and
//! flows that set the VNI.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use tests::lab::Family;
use tests::open_vswitch::{OpenVswitch, complete_packets};
use tests::traffic::ping::ping;
use tests::traffic::tcp::transfer;

use crate::support::{Container, World, count, reachable};

const BLUE: u32 = 4242;
const RED: u32 = 4243;
/// Both networks have it: which of the two answers is for the VNI to say.
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 50);
const MAC: &str = "02:00:0a:07:00:32";
const BYTES: u64 = 16 << 20;

#[test]
fn two_networks_over_one_tunnel_port() -> Result<()> {
    two_networks(Family::V4)
}

#[test]
fn two_networks_over_ipv6() -> Result<()> {
    two_networks(Family::V6)
}

fn two_networks(underlay: Family) -> Result<()> {
    let mut world = World::over_without_agents(&[&[underlay][..]; 2])?;
    world.start(1, &[])?;
    let (host1, host2) = (world.host(1), world.host(2));
    complete_packets(host1.netns())?;
    let [ours, theirs] = [host1, host2].map(|host| host.station.address_of(underlay));
    let mut switch = OpenVswitch::start(&host2.station, ours)?;

    let vtep = theirs.to_string();
    host1.cli_ok(&["node", "add", "ovs", "--vtep", &vtep])?;
    let mut pairs = Vec::new();
    for (network, vni) in [("blue", BLUE), ("red", RED)] {
        let number = vni.to_string();
        let subnet = ["--subnet", "10.7.0.0/24", "--vni", &number];
        host1.cli_ok(&[&["network", "create", network][..], &subnet].concat())?;
        let theirs = Container {
            netns: switch.container(vni, THEIRS, MAC)?,
            ip: THEIRS,
            mac: MAC.parse()?,
        };
        let ip = THEIRS.to_string();
        let endpoint = ["--network", network, "--ip", &ip, "--mac", MAC];
        host1.cli_ok(&[&["endpoint", "add", "--node", "ovs"][..], &endpoint].concat())?;
        let ours = world.container(1, network, &format!("{network}-ours"))?;
        pairs.push((ours, theirs));
    }

    for (ours, theirs) in &pairs {
        // They ask by broadcast who has our address.
        reachable(theirs, ours, 10)?;
        reachable(ours, theirs, 10)?;
        transfer(&ours.netns, &theirs.netns, theirs.address(5001), BYTES)?.verify()?;
        transfer(&theirs.netns, &ours.netns, ours.address(5001), BYTES)?.verify()?;
    }
    let neighbours = switch.tunnel_neighbours()?;
    ensure!(neighbours.contains(&ours.to_string()), "{neighbours}");
    let reasons = ["inner_source", "unknown_destination", "not_local"];
    for reason in reasons {
        let dropped = count(host1, "overlay_vni_drops_total", &[("reason", reason)])?;
        ensure!(dropped == 0, "{reason}: {dropped} drops");
    }

    // With one of the two gone, nobody answers in its network.
    let [(blue, _), (red, _)] = &pairs[..] else {
        anyhow::bail!("two networks");
    };
    pairs[1].1.netns.ip(&["link", "set", "eth0", "down"])?;
    ensure!(ping(&red.netns, THEIRS.into(), 3)?.received == 0);
    ensure!(ping(&blue.netns, THEIRS.into(), 3)?.lost() == 0);
    Ok(())
}
