//! What arrives where, in each mode.

use anyhow::{Result, ensure};
use overlay_common::net::MacAddr;
use tests::capture::{Capture, fields};
use tests::lab::UNDERLAY;

use super::{Listener, ethernet, reaches_each_once, reaches_none};
use crate::support::{Container, StoreKind, World, udp_frame};

/// Two containers on each of two hosts; the first sends, the others listen.
struct Party {
    world: World,
    sender: Container,
    listeners: Vec<Listener>,
}

impl Party {
    fn new(flood: &str) -> Result<Self> {
        let world = World::new(StoreKind::Embedded)?;
        world.create_network("blue", &["--subnet", "10.42.0.0/24", "--flood", flood])?;
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
            (
                "IPv4 multicast",
                udp_frame(sender, (group, [239, 1, 2, 3].into()), 7002)?,
            ),
            (
                "unknown unicast",
                udp_frame(sender, (nobody, [10, 42, 0, 200].into()), 7003)?,
            ),
            ("gratuitous ARP", self.arp(self.sender.ip.octets())),
            ("ARP for an unknown address", self.arp([10, 43, 0, 1])),
        ])
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
    let mut party = Party::new("multicast=239.1.2.3")?;
    let capture = Capture::start(
        party.world.host(1).netns(),
        UNDERLAY,
        "udp dst port 4789",
        party.world.work.path(),
    )?;
    party.everybody_hears_all()?;
    let file = capture.stop()?;
    let copies = |filter: &str| fields(&file, filter, &["ip.dst"]);
    let flooded = copies("eth.dst == ff:ff:ff:ff:ff:ff")?;
    ensure!(!flooded.is_empty(), "no copy was seen");
    ensure!(
        flooded.iter().all(|row| row[0] == "239.1.2.3"),
        "copies went elsewhere: {flooded:?}"
    );
    for host in &mut party.world.lab.hosts {
        host.agent()?.kill9()?;
    }
    party.everybody_hears_all()
}
