//! What a container gets: addresses of both families, routes, an MTU that follows the underlay.

use anyhow::{Context as _, Result, ensure};
use tests::lab::UNDERLAY;
use tests::netns::Netns;
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World, reachable};

fn routes(netns: &Netns) -> Result<String> {
    Ok(netns.ip(&["route"])? + &netns.ip(&["-6", "route"])?)
}

#[test]
fn several_subnets_of_both_families() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    let subnets = ["--subnet", "10.1.0.0/24", "--subnet", "10.2.0.0/24"];
    let gateways = ["--gateway", "10.2.0.254", "--subnet", "fd00:1::/64"];
    world.create_network("blue", &[subnets, gateways].concat())?;
    let shown = world.host(2).cli_json(&["network", "inspect", "blue"])?;
    ensure!(
        shown["gateways"] == serde_json::json!(["10.2.0.254", "10.1.0.1", "fd00:1::1"]),
        "{shown}"
    );

    let host = world.host(1);
    let web = host.container("web")?;
    host.add_endpoint("blue", &web, &["--ip", "10.2.0.7", "--name", "web"])?;
    let shown = host.cli_json(&["endpoint", "inspect", "web"])?;
    let ip6 = shown["ip6"].as_str().context("no IPv6 address")?;
    let inside = web.ip(&["addr", "show", "eth0"])?;
    ensure!(inside.contains("10.2.0.7/24"), "{inside}");
    let line = inside.lines().find(|line| line.contains(ip6));
    ensure!(
        line.is_some_and(|line| line.contains("/64") && line.contains("nodad")),
        "{inside}"
    );
    let routes_now = routes(&web)?;
    for wanted in [
        "default via 10.2.0.254 dev eth0",
        "10.1.0.0/24 via 10.2.0.254 dev eth0",
        "default via fd00:1::1 dev eth0",
    ] {
        ensure!(routes_now.contains(wanted), "{wanted}: {routes_now}");
    }

    // A way out that is there already stays the only one, whatever its metric.
    let other = host.container("other")?;
    other.ip(&["link", "add", "up0", "type", "veth", "peer", "up1"])?;
    other.ip(&["addr", "add", "192.168.7.2/24", "dev", "up0"])?;
    for device in ["up0", "up1"] {
        other.ip(&["link", "set", device, "up"])?;
    }
    let own = [
        "route",
        "add",
        "default",
        "via",
        "192.168.7.1",
        "metric",
        "50",
    ];
    other.ip(&own)?;
    host.add_endpoint("blue", &other, &[])?;
    let default = other.ip(&["route", "show", "default"])?;
    ensure!(
        default.lines().count() == 1 && default.contains("192.168.7.1"),
        "{default}"
    );

    world.create_network("shut", &["--subnet", "10.3.0.0/24", "--internal"])?;
    let shut = host.container("shut")?;
    host.add_endpoint("shut", &shut, &[])?;
    ensure!(!routes(&shut)?.contains("default"), "{}", routes(&shut)?);

    // Nothing but IPv6: the MAC comes from the address.
    world.create_network("six", &["--subnet", "fd00:6::/64"])?;
    let six = host.container("six")?;
    let path = six.path();
    let path = path.to_str().context("path")?;
    host.cli_ok(&[
        "endpoint",
        "add",
        "--network",
        "six",
        "--netns",
        path,
        "--name",
        "six",
    ])?;
    let shown = host.cli_json(&["endpoint", "inspect", "six"])?;
    ensure!(shown["ip4"].is_null(), "{shown}");
    ensure!(
        shown["mac"]
            .as_str()
            .is_some_and(|mac| mac.starts_with("06:")),
        "{shown}"
    );
    Ok(())
}

#[test]
fn allowed_addresses_and_forwarding_are_shown_and_in_the_maps() -> Result<()> {
    let world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/24"])?;
    let host = world.host(1);
    let router = host.container("router")?;
    let options = [
        "--name",
        "router",
        "--allow-ip",
        "10.42.0.99",
        "--allow-ip",
        "192.168.0.0/16",
    ];
    host.add_endpoint("blue", &router, &options)?;
    until(CONVERGE, || {
        let shown = world.host(2).cli_json(&["endpoint", "inspect", "router"])?;
        ensure!(
            shown["allow_ips"] == serde_json::json!(["10.42.0.99/32", "192.168.0.0/16"])
                && shown["forwarding"] == true,
            "{shown}"
        );
        Ok(())
    })?;
    let dump = host.cli_json(&["dump"])?;
    let allowed = dump["allowed"]
        .as_array()
        .context("no `allowed` in the dump")?;
    let prefixes: Vec<_> = allowed
        .iter()
        .filter_map(|row| row["prefix"].as_str())
        .collect();
    ensure!(
        prefixes.len() == 2
            && prefixes.contains(&"10.42.0.99/32")
            && prefixes.contains(&"192.168.0.0/16"),
        "{dump}"
    );
    host.cli_ok(&["endpoint", "rm", "router"])?;
    let dump = host.cli_json(&["dump"])?;
    ensure!(dump["allowed"] == serde_json::json!([]), "{dump}");
    Ok(())
}

fn mtu(netns: &Netns, device: &str) -> Result<String> {
    let shown = netns.ip(&["-o", "link", "show", device])?;
    let mtu = shown
        .split("mtu ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    Ok(mtu.context("no MTU")?.to_owned())
}

#[test]
fn the_mtu_follows_the_underlay() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/24"])?;
    world.create_network("small", &["--subnet", "10.43.0.0/24", "--mtu", "1300"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    let small = world.container(1, "small", "small")?;
    ensure!(mtu(&one.netns, "eth0")? == "1450");
    ensure!(mtu(&small.netns, "eth0")? == "1300");
    let shown = world.host(1).cli_json(&["endpoint", "inspect", "one"])?;
    let device = shown["device"].as_str().context("no device")?.to_owned();

    // The agent that comes back was not there when the interfaces were made.
    let url = world.store.url();
    world.host_mut(1).agent()?.stop(CONVERGE)?;
    world
        .host(1)
        .netns()
        .ip(&["link", "set", UNDERLAY, "mtu", "1400"])?;
    world.host_mut(1).start_agent(&url)?;
    until(CONVERGE, || {
        let inside = mtu(&one.netns, "eth0")?;
        let outside = mtu(world.host(1).netns(), &device)?;
        ensure!(inside == "1350" && outside == "34118", "{inside} {outside}");
        Ok(())
    })?;
    ensure!(
        mtu(&small.netns, "eth0")? == "1300",
        "an explicit MTU that fits stays"
    );
    reachable(&one, &two, 3)
}
