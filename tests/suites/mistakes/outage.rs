//! The agent starts, and Consul is not there.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::agent::METRICS;
use tests::consul::Consul;
use tests::http;
use tests::lab::Lab;
use tests::traffic::ping::Pinging;
use tests::wait::until;

use super::{inside, logged, refused, unchanged};
use crate::support::traces::Traces;
use crate::support::{CONVERGE, Store, StoreKind, World, reachable};

/// Without a snapshot it waits, says so, and the data path of before forwards without a loss; then it goes on.
#[test]
fn consul_is_not_there_at_the_start() -> Result<()> {
    let mut world = World::new(StoreKind::Consul)?;
    let url = world.store.url();
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 1)?;
    let folder = world.work.path().to_owned();
    let pinging = Pinging::start(
        &one.netns,
        two.ip.into(),
        Duration::from_millis(10),
        &folder,
    )?;

    world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
    let Store::Consul(consul) = &mut world.store else {
        anyhow::bail!("this world has no Consul");
    };
    consul.daemon().kill9()?;
    std::fs::remove_file(world.host(1).work().path().join("state/snapshot.redb"))?;
    world.host_mut(1).spawn_agent(&url, &[])?;
    let agent = world.host_mut(1).agent()?;
    logged(
        agent,
        &[
            "WARN",
            "waiting for the store at",
            &url,
            "keeps its last state",
        ],
    )?;
    logged(agent, &["agent is running"])?;
    let status = until(CONVERGE, || world.host(1).cli_ok(&["status"]))?;
    for said in [
        &*format!("{url} down since"),
        "no connection",
        "keeps its last state",
    ] {
        ensure!(status.contains(said), "wanted `{said}` in: {status}");
    }
    let ready = http::request(world.host(1).netns(), METRICS, "GET", "/readyz", "")?;
    ensure!(ready.status == 503, "{ready:?}");

    let free = world.host(1).container("free")?;
    let names = [("free", &free)];
    let before = (Traces::settled(world.host(1))?, inside(&free)?);
    for mistake in [
        (
            "network create red",
            1,
            &[
                "cannot create network red",
                "no connection to the store at",
                &*url,
            ][..],
        ),
        (
            "endpoint add --network blue --netns @free",
            1,
            &[
                "cannot add an endpoint to network blue",
                &url,
                "`overlay-agent status`",
            ],
        ),
        (
            "endpoint rm one",
            1,
            &["cannot remove endpoint one", &url, "`overlay-agent status`"],
        ),
        ("network ls", 1, &[&url, "`overlay-agent status`"]),
    ] {
        refused(world.host(1), &names, mistake)?;
    }
    unchanged(world.host(1), &before.0)?;
    ensure!(inside(&free)? == before.1, "left in the container");

    let ip = IpAddr::V4(world.store_station.ip);
    world.store = Store::Consul(Consul::start(&world.store_station.netns, ip, &folder)?);
    world
        .host_mut(1)
        .wait_agent_ready(Duration::from_secs(60))?;
    let three = world.container(1, "blue", "three")?;
    reachable(&three, &two, 1)?;
    let summary = pinging.stop()?;
    ensure!(summary.lost() == 0, "traffic was lost: {summary:?}");
    Ok(())
}

/// An address without a host behind it answers nothing at all, not even that nobody is there.
#[test]
fn nothing_answers() -> Result<()> {
    let url = "http://192.0.2.200:8500";
    let mut lab = Lab::switched(1)?;
    let host = &mut lab.hosts[0];
    host.spawn_agent(url, &[])?;
    let agent = host.agent()?;
    logged(agent, &["WARN", "waiting for the store at", url])?;
    logged(agent, &["agent is running"])?;
    let status = until(CONVERGE, || {
        let status = host.cli_ok(&["status"])?;
        ensure!(status.contains("down since"), "{status}");
        Ok(status)
    })?;
    ensure!(status.contains(url), "{status}");
    Ok(())
}
