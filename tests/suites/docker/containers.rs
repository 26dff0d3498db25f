//! Containers as their users start them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::docker::{Docker, IMAGE};
use tests::http;
use tests::wait::until;

use super::world::{DRIVER, Dockers, address, inspect, reaches};
use crate::support::CONVERGE;
use crate::support::snapshot::{Snapshot, held};

/// How many start at once on each host.
const MANY: usize = 20;

#[test]
fn many_at_once() -> Result<()> {
    let all = Dockers::new()?;
    all.create(1, "blue", &[])?;
    all.everywhere("blue")?;
    let before = Snapshot::of(&all.world)?;
    let names: Vec<_> = (0..MANY).map(|k| format!("c{k}")).collect();
    std::thread::scope(|scope| {
        let started: Vec<_> = [1, 2]
            .into_iter()
            .flat_map(|n| names.iter().map(move |name| (n, name)))
            .map(|(n, name)| {
                let all = &all;
                scope.spawn(move || {
                    all.run(n, "blue", name, &["--cap-add", "NET_ADMIN"])
                        .with_context(|| format!("{name} on host{n}"))
                })
            })
            .collect();
        for started in started {
            started.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let mut ips = BTreeSet::new();
    for docker in &all.dockers {
        for name in &names {
            let ip: Ipv4Addr = address(docker, "blue", name)?.parse()?;
            ensure!(ips.insert(ip), "{ip} twice");
        }
    }
    let list: Vec<_> = ips.iter().map(ToString::to_string).collect();
    // Every one of them pings all, and forgets them: the kernel has one table of neighbours for all
    // namespaces, of 1024 by default, and this machine is all hosts at once.
    let script = format!(
        "for ip in {}; do ping -c 1 -W 5 $ip >/dev/null || echo lost $ip; done; ip neigh flush dev eth0 >/dev/null 2>&1",
        list.join(" ")
    );
    for docker in &all.dockers {
        for name in &names {
            let said = docker.cli_ok(&["exec", name, "sh", "-c", &script])?;
            ensure!(said.is_empty(), "{name}: {said}");
        }
    }
    for docker in &all.dockers {
        let args: Vec<_> = ["rm", "-f"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .collect();
        docker.cli_ok(&args)?;
    }
    before.comes_back(&all.world)
}

#[test]
fn as_asked() -> Result<()> {
    let all = Dockers::new()?;
    all.create(1, "blue", &["--subnet", "10.50.0.0/24"])?;
    all.everywhere("blue")?;
    let before = Snapshot::of(&all.world)?;
    all.create(2, "red", &["--subnet", "10.51.0.0/24", "--internal"])?;
    all.everywhere("red")?;
    let more = [
        "--ip",
        "10.50.0.9",
        "--mac-address",
        "02:00:00:00:50:09",
        "-p",
        "8080:80",
    ];
    let ip = all.run(1, "blue", "one", &more)?;
    ensure!(ip == "10.50.0.9", "{ip}");
    let said = inspect(all.docker(1), "one")?;
    let network = &said["NetworkSettings"]["Networks"]["blue"];
    ensure!(network["MacAddress"] == "02:00:00:00:50:09", "{network}");
    let link = all
        .docker(1)
        .cli_ok(&["exec", "one", "ip", "addr", "show", "eth0"])?;
    ensure!(
        link.contains("02:00:00:00:50:09") && link.contains("mtu 1450"),
        "{link}"
    );
    all.run(2, "blue", "two", &[])?;
    reaches(all.docker(2), "two", "10.50.0.9")?;

    // The way out, and the way in by a published port.
    let outside = all.world.store_station.ip.to_string();
    all.world
        .host(1)
        .netns()
        .sysctl("net.ipv4.ip_forward", "1")?;
    reaches(all.docker(1), "one", &outside)?;
    all.docker(1).cli_ok(&[
        "exec",
        "-d",
        "one",
        "sh",
        "-c",
        "mkdir /www; echo hi > /www/w; httpd -h /www",
    ])?;
    let web = (all.world.host(1).ip(), 8080).into();
    until(CONVERGE, || {
        let said = http::get(&all.world.store_station.netns, web, "/w")?;
        ensure!(said.trim() == "hi", "{said}");
        Ok(())
    })?;

    // On two networks; the internal one has no way out.
    all.docker(1)
        .cli_ok(&["network", "connect", "red", "one"])?;
    let red = all.run(2, "red", "inside", &[])?;
    reaches(all.docker(1), "one", &red)?;
    let route = all.docker(2).cli_ok(&["exec", "inside", "ip", "route"])?;
    ensure!(!route.contains("default"), "{route}");
    all.docker(1)
        .cli_ok(&["network", "disconnect", "red", "one"])?;
    reaches(all.docker(2), "two", "10.50.0.9")?;
    by_hand(&all)?;

    // Names and ids as Docker has them, also after a change.
    all.docker(1).cli_ok(&["rename", "one", "first"])?;
    let id = said["Id"].as_str().context("no id")?.to_owned();
    until(CONVERGE, || {
        let listed = all.world.host(2).cli_json(&["endpoint", "ls"])?;
        let found = listed.as_array().context("no list")?.iter();
        let found: Vec<_> = found.filter(|one| one["ip4"] == "10.50.0.9").collect();
        ensure!(found.len() == 1 && found[0]["name"] == "first", "{listed}");
        ensure!(found[0]["container"] == id.as_str(), "{listed}");
        Ok(())
    })?;
    all.docker(1).cli_ok(&["rm", "-f", "first"])?;
    all.docker(2).cli_ok(&["rm", "-f", "two", "inside"])?;
    all.docker(1).cli_ok(&["network", "rm", "red"])?;
    all.nowhere("red")?;
    before.comes_back(&all.world)
}

/// A container on Docker's own bridge gets an interface of ours, of which Docker knows nothing.
fn by_hand(all: &Dockers) -> Result<()> {
    let (docker, host) = (all.docker(1), all.world.host(1));
    let add = |container: &str| {
        let place = ["--container", container, "--ifname", "eth1"];
        host.cli(&[&["endpoint", "add", "--network", "blue"], &place[..]].concat())
    };
    docker.cli_ok(&[
        "run", "-d", "--init", "--name", "plain", IMAGE, "sleep", "1000",
    ])?;
    let id = inspect(docker, "plain")?["Id"].clone();
    let id = id.as_str().context("no id")?;
    let said = add(&id[..12])?;
    ensure!(said.code == 0, "{said:?}");
    let shown = host.cli_json(&["endpoint", "inspect", "plain"])?;
    ensure!(
        shown["container"] == id && shown["state"] == "up",
        "{shown}"
    );
    let ip = shown["ip4"].as_str().context("no address")?;
    reaches(all.docker(2), "two", ip)?;
    reaches(docker, "plain", "10.50.0.9")?;
    // Its interface is taken, and so is its name.
    let again = add("plain")?;
    ensure!(
        again.code == 1 && again.stderr.contains("--name"),
        "{again:?}"
    );
    let unknown = add("nobody")?;
    let wanted = "there is no container `nobody`";
    ensure!(
        unknown.code == 1 && unknown.stderr.contains(wanted),
        "{unknown:?}"
    );
    host.cli_ok(&["endpoint", "rm", "plain"])?;
    docker.cli_ok(&["stop", "-t", "0", "plain"])?;
    let stopped = add("plain")?;
    let wanted = "container plain does not run";
    ensure!(
        stopped.code == 1 && stopped.stderr.contains(wanted),
        "{stopped:?}"
    );
    docker.cli_ok(&["rm", "plain"]).map(drop)
}

/// Docker makes another endpoint at each start: the MAC of the one before must be free by then.
#[test]
fn a_mac_address_stays() -> Result<()> {
    const MAC: &str = "02:00:00:00:50:09";
    let all = Dockers::new()?;
    all.create(1, "blue", &["--subnet", "10.50.0.0/24"])?;
    all.everywhere("blue")?;
    let before = Snapshot::of(&all.world)?;
    let mut ip = all.run(1, "blue", "one", &["--mac-address", MAC])?;
    all.run(2, "blue", "two", &[])?;
    for _ in 0..3 {
        reaches(all.docker(2), "two", &ip)?;
        let args = ["exec", "two", "ip", "neigh", "show", &ip];
        let neighbour = all.docker(2).cli_ok(&args)?;
        ensure!(neighbour.contains(MAC), "{neighbour}");
        all.docker(1).cli_ok(&["restart", "-t", "1", "one"])?;
        ip = address(all.docker(1), "blue", "one")?;
        let said = inspect(all.docker(1), "one")?;
        let network = &said["NetworkSettings"]["Networks"]["blue"];
        ensure!(network["MacAddress"] == MAC, "{network}");
        let link = ["exec", "one", "ip", "link", "show", "eth0"];
        let link = all.docker(1).cli_ok(&link)?;
        ensure!(link.contains(MAC), "{link}");
    }
    reaches(all.docker(2), "two", &ip)?;
    // Nobody else may have it meanwhile.
    let args = ["run", "--rm", "--network", "blue", "--mac-address", MAC];
    for n in [1, 2] {
        let said = all.docker(n).cli(&[&args[..], &[IMAGE, "true"]].concat())?;
        let taken = said.stderr.contains("is taken by endpoint one");
        ensure!(said.code != 0 && taken, "{said:?}");
    }
    all.docker(1).cli_ok(&["rm", "-f", "one"])?;
    all.docker(2).cli_ok(&["rm", "-f", "two"])?;
    one_after_the_other(all.docker(1), MAC)?;
    before.comes_back(&all.world)
}

/// Endpoints with one MAC, made and removed by Docker's calls without the time that it takes itself.
fn one_after_the_other(docker: &Docker, mac: &str) -> Result<()> {
    let socket = docker.plugins().join(format!("{DRIVER}.sock"));
    let call = |name: &str, asked: &Value| -> Result<Value> {
        let said = http::request_unix(&socket, "POST", &format!("/{name}"), &asked.to_string())?;
        let said: Value = serde_json::from_str(&said.body)?;
        let done = said["Err"].is_null() && said["Error"].is_null();
        ensure!(done, "{name}: {said}");
        Ok(said)
    };
    let pool = json!({"PoolID": "10.50.0.0/24"});
    let lent = call("IpamDriver.RequestAddress", &pool)?;
    let address = lent["Address"].as_str().context("no address")?;
    let network = docker.cli_ok(&["network", "inspect", "-f", "{{.Id}}", "blue"])?;
    for number in 0..10 {
        let id = format!("{number:02x}{:062x}", 0);
        let interface = json!({"Address": address, "MacAddress": mac});
        let made = json!({"NetworkID": network, "EndpointID": id, "Interface": interface});
        call("NetworkDriver.CreateEndpoint", &made)?;
        let removed = json!({"NetworkID": network, "EndpointID": id});
        call("NetworkDriver.DeleteEndpoint", &removed)?;
    }
    let given = json!({"PoolID": "10.50.0.0/24", "Address": address});
    call("IpamDriver.ReleaseAddress", &given).map(drop)
}

/// The rollback of a start that was refused does not free the owner's address.
#[test]
fn a_taken_address_stays_the_owners() -> Result<()> {
    let all = Dockers::new()?;
    all.create(1, "blue", &["--subnet", "10.50.0.0/24"])?;
    all.everywhere("blue")?;
    all.run(1, "blue", "one", &["--ip", "10.50.0.9"])?;
    for n in [1, 2] {
        let args = [
            "run",
            "--rm",
            "--network",
            "blue",
            "--ip",
            "10.50.0.9",
            IMAGE,
            "true",
        ];
        let said = until(CONVERGE, || {
            let said = all.docker(n).cli(&args)?;
            ensure!(said.stderr.contains("taken by endpoint one"), "{said:?}");
            Ok(said)
        })?;
        ensure!(said.code != 0, "{said:?}");
    }
    all.run(2, "blue", "two", &[])?;
    reaches(all.docker(2), "two", "10.50.0.9")?;
    let vni = crate::support::vni_of(all.world.host(1), "blue")?;
    let taken = held(&all.world, vni)?;
    ensure!(
        taken.iter().any(|key| key.ends_with("/0a320009")),
        "{taken:?}"
    );
    Ok(())
}
