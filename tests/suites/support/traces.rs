//! What an agent leaves on a host, to compare before and after.

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use nix::net::if_::if_nameindex;
use similar::TextDiff;
use tests::lab::Host;
use tests::netns::Netns;
use tests::wait::until;

use super::CONVERGE;

/// What an agent could leave in a host's namespace and on its bpffs.
#[derive(Debug, PartialEq)]
pub struct Traces {
    links: Vec<String>,
    addresses: String,
    routes: String,
    neighbors: Vec<String>,
    qdiscs: String,
    xdp: String,
    /// Device, direction, ids: bpftool 7.1 does not show them.
    tcx: Vec<(String, &'static str, Vec<u32>)>,
    pins: Vec<String>,
}

impl Traces {
    /// Once the kernel's own changes to new devices are over: it checks addresses for duplicates,
    /// and tells that a device is up some time after its carrier is there.
    pub fn settled(host: &Host) -> Result<Self> {
        until(CONVERGE, || {
            let traces = Self::of(host)?;
            ensure!(!traces.addresses.contains("tentative"), "{traces:#?}");
            let rising = |link: &String| link.contains("LOWER_UP") && link.contains("DOWN mode");
            ensure!(!traces.links.iter().any(rising), "{traces:#?}");
            Ok(traces)
        })
    }

    pub fn of(host: &Host) -> Result<Self> {
        let netns = host.netns();
        Ok(Self {
            tcx: tcx(netns)?,
            links: names(&netns.ip(&["-o", "-d", "link"])?),
            addresses: netns.ip(&["-o", "addr"])?,
            routes: netns.ip(&["route", "show", "table", "all"])?,
            neighbors: managed(&netns.ip(&["neigh"])?),
            qdiscs: run(netns, "tc", &["qdisc"])?,
            xdp: run(netns, "bpftool", &["net", "show"])?,
            pins: pins(host)?,
        })
    }
}

/// That a host is as it was; the error has the lines that are not.
pub fn unchanged(host: &Host, before: &Traces) -> Result<()> {
    let after = Traces::of(host)?;
    let [then, now] = [before, &after].map(|traces| format!("{traces:#?}"));
    let changes = TextDiff::from_lines(&then, &now);
    ensure!(
        *before == after,
        "it changed:\n{}",
        changes.unified_diff().context_radius(0)
    );
    Ok(())
}

/// Links without what changes by itself.
fn names(links: &str) -> Vec<String> {
    links
        .lines()
        .map(|line| {
            line.split_whitespace()
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

/// Neighbour entries that somebody asked the kernel to keep; others come and go, as do the
/// states of these.
fn managed(neighbors: &str) -> Vec<String> {
    let mut kept: Vec<_> = neighbors
        .lines()
        .filter(|line| line.contains("managed") || line.contains("extern_learn"))
        .map(|line| {
            let words = line.split_whitespace();
            words.take(3).collect::<Vec<_>>().join(" ")
        })
        .collect();
    kept.sort();
    kept
}

/// The programs at TCX of every device.
fn tcx(netns: &Netns) -> Result<Vec<(String, &'static str, Vec<u32>)>> {
    netns.run(|| {
        let mut found = Vec::new();
        for device in &if_nameindex().context("list the devices")? {
            let device = device.name().to_string_lossy().into_owned();
            for (direction, hook) in [
                ("ingress", TcAttachType::Ingress),
                ("egress", TcAttachType::Egress),
            ] {
                let (_, programs) = SchedClassifier::query_tcx(device.as_str(), hook)
                    .with_context(|| format!("list the programs at {direction} of {device}"))?;
                if !programs.is_empty() {
                    let ids = programs.iter().map(ProgramInfo::id).collect();
                    found.push((device.clone(), direction, ids));
                }
            }
        }
        Ok(found)
    })
}

fn run(netns: &Netns, program: &str, args: &[&str]) -> Result<String> {
    tests::command::output(netns.command(program)?.args(args))
}

fn pins(host: &Host) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![host.pins().to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            found.push(path.display().to_string());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
