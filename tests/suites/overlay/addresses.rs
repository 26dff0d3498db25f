//! Who gets which address, who has which, and what becomes of those that nobody has.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::http;
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World};

/// Long before the present.
const OLD: u64 = 1_500_000_000;

/// The addresses of a network by address: state and name.
fn listed(world: &World, host: usize, action: &str, network: &str) -> Result<Vec<[String; 3]>> {
    let all = world.host(host).cli_json(&["ipam", action, network])?;
    let all = all.as_array().context("not a list")?.clone();
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or("-").to_owned();
    Ok(all
        .iter()
        .map(|one| ["ip", "state", "name"].map(|field| text(one, field)))
        .collect())
}

fn row(ip: Ipv4Addr, state: &str, name: &str) -> [String; 3] {
    [ip.to_string(), state.to_owned(), name.to_owned()]
}

fn store(world: &World, method: &str, key: &str, body: &str) -> Result<()> {
    let from = &world.store_station.netns;
    let path = format!("/v1/kv/overlay/v1/{key}");
    let answer = http::request(from, world.store.address(), method, &path, body)?;
    ensure!(answer.status == 200, "{key}: {answer:?}");
    Ok(())
}

#[test]
fn released_addresses_and_names() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let excluded = ["--exclude", "10.42.0.4/30", "--exclude", "10.42.0.2"];
    world.create_network(
        "blue",
        &[&["--subnet", "10.42.0.0/28"], &excluded[..]].concat(),
    )?;
    let shown = world.host(2).cli_json(&["network", "inspect", "blue"])?;
    ensure!(
        shown["exclude"] == json!(["10.42.0.4/30", "10.42.0.2/32"]),
        "{shown}"
    );
    // Of 14 the gateway has one, and five are excluded.
    let free = |world: &World| {
        let metrics = world.host(1).metrics()?;
        let labels = [("network", "blue"), ("family", "ipv4")];
        let lasts = "overlay_addresses_exhaustion_seconds";
        ensure!(metrics.sum(lasts, &labels)?.is_some(), "{}", metrics.text());
        metrics
            .sum("overlay_addresses_free", &labels)?
            .context("no metric")
    };
    let web = world.container(1, "blue", "web")?;
    until(CONVERGE, || {
        let free = free(&world)?;
        ensure!(free == 7.0, "{free}");
        Ok(())
    })?;
    let host = world.host(1);
    let netns = host.container("other")?;
    for ip in ["10.42.0.2", "10.42.0.5"] {
        let path = netns.path().display().to_string();
        let add = [
            "endpoint",
            "add",
            "--network",
            "blue",
            "--netns",
            &path,
            "--ip",
            ip,
        ];
        let said = host.cli(&add)?;
        ensure!(
            said.code == 1 && said.stderr.contains("reserved"),
            "{said:?}"
        );
    }

    host.cli_ok(&["endpoint", "rm", "web"])?;
    let released = row(web.ip, "released", "web");
    let addresses = listed(&world, 2, "ls", "blue")?;
    ensure!(addresses.contains(&released), "{addresses:?}");
    ensure!(addresses.contains(&row([10, 42, 0, 1].into(), "gateway", "-")));
    ensure!(listed(&world, 2, "leaks", "blue")?.is_empty());
    // The seven others first; those excluded never.
    for number in 0..7 {
        let other = world.container(2, "blue", &format!("c{number}"))?;
        ensure!(
            other.ip != web.ip && other.ip > Ipv4Addr::new(10, 42, 0, 7)
                || other.ip == Ipv4Addr::new(10, 42, 0, 3),
            "{}",
            other.ip
        );
    }
    let again = world.container(1, "blue", "web")?;
    ensure!(again.ip == web.ip, "{} after {}", again.ip, web.ip);
    until(CONVERGE, || {
        let free = free(&world)?;
        ensure!(free == 0.0, "{free}");
        Ok(())
    })?;

    // Whoever comes when nothing else is left gets it at once.
    world.host(1).cli_ok(&["endpoint", "rm", "web"])?;
    let late = world.container(2, "blue", "late")?;
    ensure!(late.ip == web.ip, "{} after {}", late.ip, web.ip);
    world.host(2).cli_ok(&["endpoint", "rm", "late"])?;
    world.host(2).cli_ok(&["endpoint", "rm", "c0"])?;

    // Long ago by now: the agent that comes back deletes it, and knows whose it was.
    let url = world.store.url();
    world.host_mut(2).agent()?.stop(CONVERGE)?;
    let file = world.host(2).work().folder("state")?.join("addresses.json");
    let mut kept: Value = serde_json::from_slice(&fs::read(&file)?)?;
    for entry in kept.as_array_mut().context("not a list")? {
        entry["released"] = OLD.into();
    }
    fs::write(&file, serde_json::to_vec(&kept)?)?;
    world.host_mut(2).start_agent(&url)?;
    until(CONVERGE, || {
        let addresses = listed(&world, 1, "ls", "blue")?;
        let mut left = addresses.iter().filter(|[_, state, _]| state == "released");
        ensure!(left.next().is_none(), "{addresses:?}");
        Ok(())
    })?;
    let again = world.container(2, "blue", "late")?;
    ensure!(again.ip == late.ip, "{} after {}", again.ip, late.ip);
    Ok(())
}

#[test]
fn leaks_are_told_and_reclaimed() -> Result<()> {
    let world = World::new(StoreKind::Consul)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    world.create_network("red", &["--subnet", "10.43.0.0/16"])?;
    let there = world.container(2, "blue", "there")?;
    let node = |host: usize| {
        let status = world.host(host).cli_json(&["status"])?;
        let id = status["node_id"].as_str().context("no node id")?;
        anyhow::Ok(id.to_owned())
    };
    let key = |vni: u32, ip: Ipv4Addr| format!("addresses/{vni:06x}/{:08x}", u32::from(ip));
    let (vni, red) = (
        crate::support::vni_of(world.host(1), "blue")?,
        crate::support::vni_of(world.host(1), "red")?,
    );
    let claim = |endpoint: &str, node: &str, since: u64| json!({"endpoint": endpoint, "node": node, "nonce": "0000000000000001", "since": since});
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let (leak, of_nobody, young, never, in_red) = (
        Ipv4Addr::new(10, 42, 9, 1),
        Ipv4Addr::new(10, 42, 9, 2),
        Ipv4Addr::new(10, 42, 9, 3),
        Ipv4Addr::new(10, 42, 9, 4),
        Ipv4Addr::new(10, 43, 9, 1),
    );
    let nobody = "aaaaaaaaaaaaaaaa";
    for (key, record) in [
        (key(vni, leak), claim(nobody, &node(2)?, OLD)),
        (key(vni, of_nobody), claim(nobody, "00000000000000ff", OLD)),
        (key(vni, young), claim(nobody, &node(2)?, now.as_secs())),
        // No clock says so.
        (key(vni, never), claim(nobody, &node(2)?, u64::MAX)),
        (key(red, in_red), claim(nobody, &node(1)?, OLD)),
    ] {
        store(&world, "PUT", &key, &record.to_string())?;
    }
    // What an endpoint of record has is no leak, however old.
    let shown = world.host(1).cli_json(&["endpoint", "inspect", "there"])?;
    let id = shown["id"].as_str().context("no id")?;
    let record = claim(id, &node(2)?, OLD).to_string();
    store(&world, "PUT", &key(vni, there.ip), &record)?;

    let leaks = [row(leak, "leaked", "-"), row(of_nobody, "leaked", "-")];
    ensure!(listed(&world, 1, "leaks", "blue")? == leaks);
    let all = world.host(1).cli_json(&["ipam", "leaks"])?;
    ensure!(all.as_array().is_some_and(|all| all.len() == 3), "{all}");
    let addresses = listed(&world, 1, "ls", "blue")?;
    for wanted in [
        row(there.ip, "used", "there"),
        row(young, "claimed", "-"),
        row(never, "claimed", "-"),
    ] {
        ensure!(addresses.contains(&wanted), "{addresses:?}");
    }
    let table = world.host(1).cli_ok(&["ipam", "leaks", "red"])?;
    ensure!(
        table.lines().count() == 2 && table.contains("10.43.9.1"),
        "{table}"
    );

    // With a node whose endpoints are not all read, nothing of it is a leak.
    let revision = |node: &str| {
        let bucket = u64::from_str_radix(node, 16)? % 32;
        anyhow::Ok(format!("index/{vni:06x}/n/{bucket:02x}/{node}"))
    };
    let revision = revision(&node(2)?)?;
    store(&world, "PUT", &revision, r#"{"rev":90,"endpoints":2}"#)?;
    ensure!(listed(&world, 1, "leaks", "blue")? == [row(of_nobody, "leaked", "-")]);
    store(&world, "PUT", &revision, r#"{"rev":91,"endpoints":1}"#)?;

    ensure!(listed(&world, 1, "reclaim", "blue")? == leaks);
    ensure!(listed(&world, 1, "reclaim", "blue")?.is_empty());
    let addresses = listed(&world, 1, "ls", "blue")?;
    ensure!(addresses.len() == 4, "{addresses:?}");
    let said = world.host(1).cli(&["ipam", "ls", "green"])?;
    ensure!(said.code == 1 && said.stderr.contains("green"), "{said:?}");

    default_subnets(&world)
}

/// Networks without a subnet keep clear of what this host has.
fn default_subnets(world: &World) -> Result<()> {
    let host = world.host(1);
    let create = |name: &str| {
        host.cli_ok(&["network", "create", name])?;
        let shown = host.cli_json(&["network", "inspect", name])?;
        anyhow::Ok(shown["subnets"][0].as_str().unwrap_or_default().to_owned())
    };
    host.netns()
        .ip(&["addr", "add", "10.64.7.7/32", "dev", "lo"])?;
    host.netns()
        .ip(&["route", "add", "blackhole", "10.65.8.0/24"])?;
    ensure!(create("one")? == "10.66.0.0/16");
    ensure!(create("two")? == "10.67.0.0/16");
    host.netns()
        .ip(&["route", "add", "blackhole", "10.64.0.0/10"])?;
    let said = host.cli(&["network", "create", "three"])?;
    ensure!(
        said.code == 1 && said.stderr.contains("--subnet"),
        "{said:?}"
    );
    Ok(())
}
