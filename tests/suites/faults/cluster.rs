//! Three servers, of which the leader is killed while endpoints are made.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::consul::Consul;
use tests::http;
use tests::lab::Lab;
use tests::netns::Netns;
use tests::traffic::ping::{Pinging, ping};
use tests::wait::until;
use tests::workdir::WorkDir;

use super::INTERVAL;
use crate::support::{Container, mac_of, network, reachable};

/// Endpoints that each host tries to make.
const EACH: usize = 6;

#[test]
fn the_leader_is_killed_in_the_middle_of_writes() -> Result<()> {
    let mut lab = Lab::switched(2)?;
    let works = [1, 2, 3].map(|n| WorkDir::new(&format!("server{n}")));
    let works = works.into_iter().collect::<Result<Vec<_>>>()?;
    let stations = [1, 2, 3].map(|n| lab.station(&format!("server{n}")));
    let stations = stations.into_iter().collect::<Result<Vec<_>>>()?;
    let places: Vec<_> = stations
        .iter()
        .zip(&works)
        .map(|(station, work)| (&station.netns, station.ip, work.path()))
        .collect();
    let mut servers = Consul::cluster(&places)?;
    let leader = http::get(
        &stations[0].netns,
        servers[0].address(),
        "/v1/status/leader",
    )?;
    let leader = stations
        .iter()
        .position(|station| leader.contains(&format!("{}:", station.ip)))
        .with_context(|| format!("no server is {leader}"))?;
    // Each host asks a server of its own, which is not the one that dies.
    let followers: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    for (host, follower) in lab.hosts.iter_mut().zip(&followers) {
        host.start_agent(&servers[*follower].url())?;
    }
    let hosts = &lab.hosts;
    hosts[0].cli_ok(&["network", "create", "blue", "--subnet", "10.42.0.0/16"])?;
    until(Duration::from_secs(15), || {
        network(&hosts[1], "blue").map(drop)
    })?;
    let mut ends = Vec::new();
    for host in hosts {
        let netns = host.container("first")?;
        let ip = host.add_endpoint("blue", &netns, &["--name", host.label()])?;
        let mac = mac_of(&netns)?;
        ends.push(Container { netns, ip, mac });
    }
    reachable(&ends[0], &ends[1], 3)?;
    let pinging = Pinging::start(&ends[0].netns, ends[1].ip.into(), INTERVAL, works[0].path())?;

    let doomed = servers.remove(leader);
    let made = thread::scope(|scope| {
        let running: Vec<_> = hosts
            .iter()
            .map(|host| {
                scope.spawn(move || {
                    let mut made: Vec<(String, Netns)> = Vec::new();
                    let mut refused = Vec::new();
                    for number in 0..EACH {
                        let name = format!("{}-{number}", host.label());
                        let netns = host.container(&name)?;
                        let path = netns.path().display().to_string();
                        let add = ["endpoint", "add", "--network", "blue", "--netns", &path];
                        let said = host.cli(&[&add[..], &["--name", &name]].concat())?;
                        if said.code == 0 {
                            made.push((name, netns));
                        } else {
                            ensure!(said.stderr.contains("the store"), "{said:?}");
                            refused.push(name);
                        }
                    }
                    Ok((made, refused))
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        let mut doomed = doomed;
        doomed.daemon().kill9()?;
        let ended = running.into_iter().map(|one| {
            let ended = one.join().map_err(|_| anyhow::anyhow!("panicked"))?;
            ended.context("while the leader died")
        });
        ended.collect::<Result<Vec<_>>>()
    })?;

    // What was said to be made is there, once, and nothing else.
    let mut wanted: Vec<_> = made
        .iter()
        .flat_map(|(made, _)| made.iter().map(|(name, _)| name.clone()))
        .collect();
    let refused: usize = made.iter().map(|(_, refused)| refused.len()).sum();
    println!("{} endpoints made, {refused} refused", wanted.len());
    wanted.extend(hosts.iter().map(|host| host.label().to_owned()));
    wanted.sort();
    let from = &stations[followers[0]];
    let store = servers[0].address();
    until(Duration::from_secs(60), || {
        for host in hosts {
            let status = host.cli_json(&["status"])?;
            ensure!(status["problems"] == json!([]), "{status}");
            let listed = host.cli_json(&["endpoint", "ls"])?;
            let listed = listed.as_array().context("no list")?;
            let mut names: Vec<_> = listed
                .iter()
                .filter_map(|one| one["name"].as_str())
                .collect();
            names.sort_unstable();
            ensure!(names == wanted, "{names:?} in place of {wanted:?}");
        }
        let keys = http::get(
            &from.netns,
            store,
            "/v1/kv/overlay/v1/addresses/000001/?keys",
        )?;
        let keys: Vec<Value> = serde_json::from_str(&keys).context("read the keys")?;
        // The gateway holds one.
        ensure!(keys.len() == wanted.len() + 1, "{} addresses", keys.len());
        Ok(())
    })?;
    for (ended, other) in made.iter().zip([&ends[1], &ends[0]]) {
        for (_, netns) in &ended.0 {
            let ip = netns.ipv4("eth0")?.into();
            // Agents that were refused look again after a pause.
            until(Duration::from_secs(30), || {
                ensure!(
                    ping(&other.netns, ip, 1)?.lost() == 0,
                    "no answer from {ip}"
                );
                Ok(())
            })?;
        }
    }
    for (host, other) in hosts.iter().zip([&ends[1], &ends[0]]) {
        let netns = host.container("after")?;
        let ip = host.add_endpoint("blue", &netns, &[])?;
        let mac = mac_of(&netns)?;
        reachable(&Container { netns, ip, mac }, other, 1)?;
    }
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    Ok(())
}
