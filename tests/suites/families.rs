//! Underlays of IPv6, and hosts of both families: every kind of traffic inside, by the family that
//! two hosts share.

mod checksums;
mod mixed;
mod traffic;

use anyhow::{Result, ensure};
use overlay_common::FallbackCause;
use tests::lab::{Family, Host};

use crate::support::families::{answers, introduce};
use crate::support::{Container, World, count, reachable};

const SUBNETS: &[&str] = &["--subnet", "10.6.0.0/24", "--subnet", "fd00:6::/64"];
const INSIDE: [Family; 2] = [Family::V4, Family::V6];

/// A container on each of two hosts.
struct Pair {
    one: Container,
    two: Container,
}

impl Pair {
    /// Adds them to `blue`, and waits until each answers the other over IPv4 and IPv6.
    fn new(world: &World, [one, two]: [usize; 2]) -> Result<Self> {
        let container = |n: usize| world.container(n, "blue", &format!("on{n}for{one}{two}"));
        let pair = Self {
            one: container(one)?,
            two: container(two)?,
        };
        introduce(&pair.one, &pair.two)?;
        for (from, to) in pair.ways() {
            reachable(from, to, 10)?;
            answers(&from.netns, to.ip6()?.into())?;
        }
        Ok(pair)
    }

    fn ways(&self) -> [(&Container, &Container); 2] {
        [(&self.one, &self.two), (&self.two, &self.one)]
    }
}

/// What took the slow path of a host, by direction and cause.
fn fallbacks(host: &Host) -> Result<Vec<(&'static str, &'static str, u64)>> {
    let mut found = Vec::new();
    for direction in ["tx", "rx"] {
        for cause in FallbackCause::ALL.iter().map(|cause| cause.label()) {
            let labels = [("direction", direction), ("cause", cause)];
            let sum = count(host, "overlay_fallback_packets_total", &labels)?;
            if sum > 0 {
                found.push((direction, cause, sum));
            }
        }
    }
    Ok(found)
}

fn no_drops(host: &Host) -> Result<()> {
    for reason in [
        "inner_source",
        "unknown_peer",
        "encap_failed",
        "decap_failed",
        "too_big",
        "no_route",
    ] {
        let dropped = count(host, "overlay_vni_drops_total", &[("reason", reason)])?;
        ensure!(dropped == 0, "{}: {reason}: {dropped} drops", host.label());
    }
    Ok(())
}
