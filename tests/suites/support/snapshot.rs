//! What hosts and store have while no container is there, to be compared with what they have when the
//! containers are gone again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::http;
use tests::lab::Host;
use tests::wait::until;

use super::World;

/// What Docker has not released is looked for 15 seconds after a failure.
const SWEPT: Duration = Duration::from_secs(40);

/// Docker makes it for the first container that needs a way out, and keeps it.
const GATEWAY_BRIDGE: &str = "docker_gwbridge";

/// Devices and pins of each host, and keys of the store, a line each.
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub fn of(world: &World) -> Result<Self> {
        let mut lines = BTreeSet::new();
        for host in &world.lab.hosts {
            for device in devices(host)? {
                lines.insert(format!("device {device} of {}", host.label()));
            }
            let mut pins = Vec::new();
            files(host.pins(), &mut pins)?;
            for pin in pins {
                lines.insert(format!("pin {pin} of {}", host.label()));
            }
        }
        for key in keys(world, "")? {
            lines.extend(of_key(world, &key)?);
        }
        Ok(Self(lines))
    }

    /// Waits until all is as it was when this was made, and no agent has anything to say.
    pub fn comes_back(&self, world: &World) -> Result<()> {
        until(SWEPT, || {
            for host in &world.lab.hosts {
                let listed = host.cli_json(&["endpoint", "ls"])?;
                ensure!(listed == serde_json::json!([]), "endpoints: {listed}");
                let status = host.cli_json(&["status"])?;
                ensure!(status["problems"] == serde_json::json!([]), "{status}");
            }
            let now = Self::of(world)?;
            let left: Vec<_> = now.0.difference(&self.0).collect();
            let lost: Vec<_> = self.0.difference(&now.0).collect();
            ensure!(
                left.is_empty() && lost.is_empty(),
                "left: {left:#?}, lost: {lost:#?}"
            );
            Ok(())
        })
    }
}

fn devices(host: &Host) -> Result<Vec<String>> {
    let links = host.netns().ip(&["-json", "link"])?;
    let links: Vec<Value> = serde_json::from_str(&links).context("read `ip -json link`")?;
    let names = links.iter().filter_map(|link| link["ifname"].as_str());
    let names = names.filter(|name| *name != GATEWAY_BRIDGE);
    Ok(names.map(str::to_owned).collect())
}

fn files(folder: &Path, found: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.push(path.display().to_string());
        }
    }
    Ok(())
}

/// Below a folder of the overlay's, in Consul.
pub fn keys(world: &World, folder: &str) -> Result<Vec<String>> {
    let said = get(world, &format!("overlay/v1/{folder}?keys"))?;
    serde_json::from_str(&said).with_context(|| said)
}

/// The addresses of a network that somebody holds.
pub fn held(world: &World, vni: u32) -> Result<Vec<String>> {
    let mut held = keys(world, &format!("addresses/{vni:06x}/"))?;
    let mut failed = None;
    held.retain(|key| match of_key(world, key) {
        Ok(line) => line.is_some(),
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    failed.map_or(Ok(held), Err)
}

fn get(world: &World, key: &str) -> Result<String> {
    let netns = &world.store_station.netns;
    http::get(netns, world.store.address(), &format!("/v1/kv/{key}"))
}

/// A key with its value, where that is to stay.
fn of_key(world: &World, key: &str) -> Result<Option<String>> {
    let parts: Vec<_> = key.split('/').collect();
    match parts[2..] {
        // A node's revision on a network, made by its first endpoint there. It goes with the network and
        // not before: it must never repeat. What it counts must be none again.
        ["index", _, "n", _, node] if !node.is_empty() => {
            let value: Value = serde_json::from_str(&get(world, &format!("{key}?raw"))?)?;
            let none = value["endpoints"] == 0;
            Ok((!none).then(|| format!("key {key}: {value}")))
        }
        // Which endpoint was the last to change; and what an agent says of itself, anew at each start.
        ["index", _, "b", _] | ["nodes", _] => Ok(Some(format!("key {key}"))),
        // It is there for a minute after its release.
        ["addresses", _, ip] if !ip.is_empty() => {
            let value: Value = serde_json::from_str(&get(world, &format!("{key}?raw"))?)?;
            let held = value["released"].is_null();
            Ok(held.then(|| format!("key {key}: {value}")))
        }
        // The value of a folder is empty, and Consul's answer is then an error.
        _ if key.ends_with('/') => Ok(Some(format!("key {key}"))),
        _ => Ok(Some(format!(
            "key {key}: {}",
            get(world, &format!("{key}?raw"))?
        ))),
    }
}
