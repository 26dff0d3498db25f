//! Round trips while junk arrives on the same CPU.

use std::{fmt, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use tests::{
    lab::{Host, UNDERLAY},
    traffic::{
        flood::Flood,
        junk::{self, End},
        napi,
        ping_pong::PingPong,
    },
};

use super::{
    arms::{Path, Setup},
    link::Link,
    measure::{Effort, last_cpu},
    metric::Metric,
    report::{Report, Row},
};

/// The generator's CPU.
const FIRST_CPU: usize = 0;
const STEADY: u32 = 200_000;
/// About what the generator gets into a queue that is emptied. Into one that overflows it would send several
/// times as much, of which no receiver sees anything but the overflow.
const MOST: u32 = 1_500_000;
/// Neither of the two hosts has it.
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// A network that is nowhere.
const NO_VNI: u32 = 0x00ab_cdef;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// From the other host, of a network that this one has not
    UnknownVni,
    /// Of the right network, from an address that is no host's
    UnknownSource,
    /// The header does not say that there is a VNI
    Malformed,
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rate {
    Steady,
    Most,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Junk {
    pub(super) kind: Kind,
    pub(super) rate: Rate,
}

const ALL: [Junk; 6] = [
    Junk::new(Kind::UnknownVni, Rate::Steady),
    Junk::new(Kind::UnknownVni, Rate::Most),
    Junk::new(Kind::UnknownSource, Rate::Steady),
    Junk::new(Kind::UnknownSource, Rate::Most),
    Junk::new(Kind::Malformed, Rate::Steady),
    Junk::new(Kind::Malformed, Rate::Most),
];

impl Junk {
    pub(super) const fn new(kind: Kind, rate: Rate) -> Self {
        Self { kind, rate }
    }

    fn frame(self, path: &Path<'_>) -> Result<Vec<u8>> {
        let [from, to] = path.hosts;
        let (mut from, to) = (end(from)?, end(to)?);
        let (mut vni, mut has_vni) = (path.vni, true);
        match self.kind {
            Kind::UnknownVni => vni = NO_VNI,
            Kind::UnknownSource => from.ip = STRANGER,
            Kind::Malformed => has_vni = false,
        }
        junk::Junk {
            from,
            to,
            vni,
            has_vni,
        }
        .frame()
    }
}

impl fmt::Display for Junk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::UnknownVni => "unknown VNI",
            Kind::UnknownSource => "unknown source",
            Kind::Malformed => "malformed",
        };
        let rate = match self.rate {
            Rate::Steady => "200 kpps",
            Rate::Most => "maximum",
        };
        write!(f, "{kind}, {rate}")
    }
}

/// An underlay's end.
fn end(host: &Host) -> Result<End> {
    let link = host
        .netns()
        .ip(&["-json", "link", "show", "dev", UNDERLAY])?;
    let link: serde_json::Value = serde_json::from_str(&link).context("read `ip -json link`")?;
    let text = link[0]["address"].as_str().context("no MAC address")?;
    let mut mac = [0; 6];
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16).with_context(|| format!("MAC address {text}"))?;
    }
    Ok(End { mac, ip: host.ip() })
}

/// All arms, kinds and rates, each round with another one first.
pub(super) fn measure(setups: &[Setup], effort: Effort, report: &mut Report) -> Result<()> {
    let setups: Vec<&Setup> = setups
        .iter()
        .filter(|setup| Metric::JunkFloodRtt.probe().takes(setup.arm))
        .collect();
    for setup in &setups {
        setup.set_link(Link::Wire)?;
        let path = setup.path()?;
        napi::pin(path.hosts[1].netns(), UNDERLAY, last_cpu())?;
    }
    for round in 0..effort.rounds {
        eprintln!("junk: round {} of {}", round + 1, effort.rounds);
        for turn in 0..setups.len() {
            let setup = setups[(round + turn) % setups.len()];
            of_arm(setup, effort.each, report)
                .with_context(|| format!("junk for {}", setup.arm.title()))?;
        }
    }
    Ok(())
}

/// One round: without junk, and with each.
fn of_arm(setup: &Setup, each: Duration, report: &mut Report) -> Result<()> {
    let path = setup.path()?;
    let round_trips = path.on_one_cpu(each);
    let alone = PingPong::start(&round_trips)?.per_second(each)?;
    for junk in ALL {
        tests::interrupt::check()?;
        let rate = match junk.rate {
            Rate::Steady => STEADY,
            Rate::Most => MOST,
        };
        let sender = path.hosts[0].netns();
        // A connection of its own: the last flood may have left TCP waiting.
        let ping_pong = PingPong::start(&round_trips)?;
        let flood = Flood::start(sender, UNDERLAY, junk.frame(&path)?, Some(rate), FIRST_CPU)?;
        let flooded = ping_pong.per_second(each)?;
        let sent = flood.stop()?;
        for (metric, value) in [
            (Metric::JunkFloodRtt, flooded / alone),
            (Metric::JunkSentKpps, sent / 1e3),
        ] {
            let row = Row {
                metric,
                link: Link::Wire,
                of: Some(junk),
            };
            report.add(row, setup.arm, value);
        }
    }
    Ok(())
}
