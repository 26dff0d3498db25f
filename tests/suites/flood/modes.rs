//! What arrives where, in each mode.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Result, ensure};
use etherparse::PacketBuilder;
use overlay_common::net::MacAddr;
use tests::capture::{Capture, fields};
use tests::lab::{Family, UNDERLAY};

use super::{Listener, VLAN, ethernet, reaches_each_once, reaches_none};
use crate::support::families::{BOTH, V4, V6};
use crate::support::{Container, World, udp_frame};

/// Two containers on each of two hosts; the first sends, the others listen.
struct Party {
    world: World,
    sender: Container,
    listeners: Vec<Listener>,
}

impl Party {
    fn new(flood: &str) -> Result<Self> {
        Self::over(V4, flood)
    }

    fn over(vteps: &[Family], flood: &str) -> Result<Self> {
        let world = World::over(&[vteps; 2])?;
        let subnets = ["--subnet", "10.42.0.0/24", "--subnet", "fd00:42::/64"];
        let options = [&subnets[..], &["--flood", flood, "--vlan"]].concat();
        world.create_network("blue", &options)?;
        let sender = world.container(1, "blue", "sender")?;
        let listeners = [(1, "near"), (2, "far"), (2, "further")]
            .into_iter()
            .map(|(host, name)| Listener::new(world.container(host, "blue", name)?))
            .collect::<Result<_>>()?;
        Ok(Self {
            world,
            sender,
            listeners,
        })
    }

    fn listeners(&self) -> Vec<&Listener> {
        self.listeners.iter().collect()
    }

    /// Frames of every kind that is for nobody in particular.
    fn frames(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let sender = (self.sender.mac, self.sender.ip);
        let group = MacAddr([0x01, 0x00, 0x5e, 0x01, 0x02, 0x03]);
        let multicast = udp_frame(sender, (group, [239, 1, 2, 3].into()), 7002)?;
        let in_vlan = udp_frame(sender, (group, [239, 1, 2, 3].into()), 7005)?;
        let nobody = MacAddr([2, 9, 9, 9, 9, 9]);
        Ok(vec![
            (
                "broadcast of no known protocol",
                ethernet(sender.0, MacAddr::BROADCAST, b"to all"),
            ),
            (
                "IPv4 broadcast",
                udp_frame(sender, (MacAddr::BROADCAST, [10, 42, 0, 255].into()), 7001)?,
            ),
            ("IPv4 multicast", multicast.clone()),
            (
                "unknown unicast",
                udp_frame(sender, (nobody, [10, 42, 0, 200].into()), 7003)?,
            ),
            ("IPv6 multicast", self.ipv6_multicast()?),
            ("IPv4 multicast in a VLAN", tagged(&in_vlan)),
            ("gratuitous ARP", self.arp(self.sender.ip.octets())),
            ("ARP for an unknown address", self.arp([10, 43, 0, 1])),
        ])
    }

    fn ipv6_multicast(&self) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        let group: Ipv6Addr = "ff15::1234".parse()?;
        PacketBuilder::ethernet2(self.sender.mac.0, [0x33, 0x33, 0, 0, 0x12, 0x34])
            .ipv6(self.sender.ip6()?.octets(), group.octets(), 64)
            .udp(5555, 7004)
            .write(&mut frame, b"overlay test datagram")?;
        Ok(frame)
    }

    fn arp(&self, target: [u8; 4]) -> Vec<u8> {
        let mut frame = [MacAddr::BROADCAST.0, self.sender.mac.0].concat();
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(self.sender.mac.0);
        frame.extend(self.sender.ip.octets());
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    }

    fn everybody_hears_all(&self) -> Result<()> {
        for (what, frame) in self.frames()? {
            reaches_each_once(&self.sender, &frame, &self.listeners())
                .map_err(|error| error.context(what))?;
        }
        Ok(())
    }
}

#[test]
fn drop_delivers_nothing() -> Result<()> {
    let party = Party::new("drop")?;
    for (what, frame) in party.frames()? {
        reaches_none(&party.sender, &frame, &party.listeners())
            .map_err(|error| error.context(what))?;
    }
    Ok(())
}

#[test]
fn replicate_reaches_everybody_once() -> Result<()> {
    let mut party = Party::new("replicate")?;
    let capture = Capture::start(
        party.world.host(1).netns(),
        UNDERLAY,
        "udp dst port 4789",
        party.world.work.path(),
    )?;
    party.everybody_hears_all()?;
    let file = capture.stop()?;
    // Whoever receives a copy sends none on.
    let (ours, theirs) = (party.world.host(1).ip(), party.world.host(2).ip());
    let broadcasts = |source| {
        let filter =
            format!("ip.src == {source} && eth.dst == ff:ff:ff:ff:ff:ff && eth.type == 0x88b5");
        fields(&file, &filter, &["frame.number"])
    };
    ensure!(!broadcasts(ours)?.is_empty(), "no copy was seen");
    let echoes = broadcasts(theirs)?;
    ensure!(echoes.is_empty(), "{} copies came back", echoes.len());

    // The data path does not need the agent.
    for host in &mut party.world.lab.hosts {
        host.agent()?.kill9()?;
    }
    party.everybody_hears_all()
}

#[test]
fn multicast_reaches_everybody_once() -> Result<()> {
    multicast(V4, "239.1.2.3")
}

#[test]
fn an_ipv6_group_reaches_everybody_once() -> Result<()> {
    multicast(V6, "ff05::1:203")
}

/// The hosts' tunnels to each other are of IPv4, the group is not.
#[test]
fn an_ipv6_group_between_hosts_of_both_families() -> Result<()> {
    multicast(BOTH, "ff05::1:203")
}

fn multicast(vteps: &[Family], group: &str) -> Result<()> {
    let mut party = Party::over(vteps, &format!("multicast={group}"))?;
    // The device that a route to any IPv6 group would choose, were it looked up.
    let netns = party.world.host(1).netns();
    netns.ip(&["link", "add", "a0", "type", "veth", "peer", "name", "a1"])?;
    for device in ["a0", "a1"] {
        netns.ip(&["link", "set", device, "up"])?;
    }
    let capture = Capture::start(
        netns,
        UNDERLAY,
        "udp dst port 4789",
        party.world.work.path(),
    )?;
    party.everybody_hears_all()?;
    let file = capture.stop()?;
    let group: IpAddr = group.parse()?;
    let (family, mac) = match group {
        IpAddr::V4(_) => ("ip", "01:00:5e:01:02:03"),
        IpAddr::V6(_) => ("ipv6", "33:33:00:01:02:03"),
    };
    let limit = if family == "ip" {
        "ip.ttl"
    } else {
        "ipv6.hlim"
    };
    for (filter, what) in [
        ("eth.dst == ff:ff:ff:ff:ff:ff", "broadcast"),
        ("arp", "ARP"),
        ("udp.dstport == 7002", "IPv4 multicast"),
        (
            "udp.dstport == 7005 && vlan.id == 7",
            "IPv4 multicast in a VLAN",
        ),
        ("udp.dstport == 7004", "IPv6 multicast"),
    ] {
        let columns = [&format!("{family}.dst"), "eth.dst", limit, "_ws.malformed"];
        let copies = fields(&file, filter, &columns)?;
        ensure!(!copies.is_empty(), "{what}: no copy was seen");
        let wanted = [
            group.to_string(),
            mac.to_owned(),
            "64".to_owned(),
            String::new(),
        ];
        ensure!(
            copies.iter().all(|row| row[..] == wanted),
            "{what}: copies are {copies:?}"
        );
    }
    for host in &mut party.world.lab.hosts {
        host.agent()?.kill9()?;
    }
    party.everybody_hears_all()
}

/// The same frame with an 802.1Q tag.
fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &VLAN, &[0, 7], &frame[12..]].concat()
}
