//! A network is made once, on any host, and is on all of them; so it goes.

use anyhow::{Context as _, Result, ensure};
use tests::docker::{DockerVersion, IMAGE};
use tests::wait::until;

use super::world::{DRIVER, Dockers, networks, reaches};
use crate::support::{CONVERGE, network};

/// The tutorial: created once, one container on each host, they reach each other.
#[test]
fn created_once_is_everywhere() -> Result<()> {
    let all = Dockers::new()?;
    all.create(1, "my_overlay", &[])?;
    all.everywhere("my_overlay")?;
    let master = all.run(1, "my_overlay", "master", &[])?;
    let slaver = all.run(2, "my_overlay", "slaver", &[])?;
    ensure!(master != slaver, "both have {master}");
    reaches(all.docker(1), "master", &slaver)?;
    reaches(all.docker(2), "slaver", &master)?;

    let listed = all.world.host(2).cli_json(&["endpoint", "ls"])?;
    for (name, ip) in [("master", &master), ("slaver", &slaver)] {
        until(CONVERGE, || {
            let listed = all.world.host(2).cli_json(&["endpoint", "ls"])?;
            let all = listed.as_array().context("no list")?;
            let found = all.iter().find(|one| one["name"] == name);
            ensure!(
                found.is_some_and(|one| one["ip4"] == ip.as_str()),
                "{name}: {listed}"
            );
            Ok(())
        })
        .with_context(|| listed.to_string())?;
    }
    for (docker, name) in [(all.docker(1), "master"), (all.docker(2), "slaver")] {
        docker.cli_ok(&["rm", "-f", name])?;
    }
    all.docker(2).cli_ok(&["network", "rm", "my_overlay"])?;
    all.nowhere("my_overlay")
}

/// What was said on one host is so on the other.
#[test]
fn with_options() -> Result<()> {
    let all = Dockers::new()?;
    let options = [
        "--subnet",
        "10.77.0.0/16",
        "--gateway",
        "10.77.0.254",
        "--ip-range",
        "10.77.5.0/24",
        "--aux-address",
        "printer=10.77.5.9",
        "--ipv6",
        "--subnet",
        "2001:db8:77::/64",
        "--internal",
        "-o",
        "vni=77",
        "-o",
        "mtu=1400",
        "-o",
        "flood=replicate",
    ];
    all.create(2, "blue", &options)?;
    all.everywhere("blue")?;
    let there = network(all.world.host(1), "blue")?;
    ensure!(there["vni"] == 77 && there["mtu"] == 1400, "{there}");
    ensure!(
        there["flood"] == "replicate" && there["internal"] == true,
        "{there}"
    );
    ensure!(
        there["subnets"] == serde_json::json!(["10.77.0.0/16", "2001:db8:77::/64"]),
        "{there}"
    );
    ensure!(there["gateways"][0] == "10.77.0.254", "{there}");
    ensure!(
        there["ranges"] == serde_json::json!(["10.77.5.0/24"]),
        "{there}"
    );
    let twin = all.docker(1).cli_ok(&["network", "inspect", "blue"])?;
    for wanted in [
        "10.77.0.0/16",
        "2001:db8:77::/64",
        "10.77.0.254",
        "\"Internal\": true",
    ] {
        ensure!(twin.contains(wanted), "{wanted} is missing: {twin}");
    }
    let ip = all.run(1, "blue", "one", &[])?;
    ensure!(ip.starts_with("10.77.5."), "{ip} is not in the range");
    let link = all.docker(1).cli_ok(&["exec", "one", "ip", "addr"])?;
    ensure!(
        link.contains("mtu 1400") && link.contains("2001:db8:77:"),
        "{link}"
    );
    let taken = all.docker(1).cli(&[
        "run",
        "--rm",
        "--network",
        "blue",
        "--ip",
        "10.77.5.9",
        "busybox",
        "true",
    ])?;
    ensure!(
        taken.code != 0 && taken.stderr.contains("10.77.5.9 is reserved"),
        "{taken:?}"
    );
    Ok(())
}

/// One that the agent's own command line makes is in Docker, and goes with it.
#[test]
fn made_by_the_agent() -> Result<()> {
    let all = Dockers::new()?;
    all.world
        .create_network("blue", &["--subnet", "10.66.0.0/24"])?;
    all.everywhere("blue")?;
    let one = all.run(1, "blue", "one", &[])?;
    let two = all.run(2, "blue", "two", &[])?;
    reaches(all.docker(1), "one", &two)?;
    reaches(all.docker(2), "two", &one)?;
    let refused = all.world.host(1).cli(&["network", "rm", "blue"])?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(
        refused.stderr.contains("one") && refused.stderr.contains("two"),
        "{refused:?}"
    );
    for (n, name) in [(1, "one"), (2, "two")] {
        all.docker(n).cli_ok(&["rm", "-f", name])?;
    }
    all.world.host(1).cli_ok(&["network", "rm", "blue"])?;
    all.nowhere("blue")
}

/// Docker lets nobody refuse: where others use it, it comes back.
#[test]
fn removed_while_in_use_elsewhere() -> Result<()> {
    let all = Dockers::new()?;
    all.create(1, "blue", &[])?;
    all.everywhere("blue")?;
    let ip = all.run(2, "blue", "two", &[])?;
    all.docker(1).cli_ok(&["network", "rm", "blue"])?;
    all.everywhere("blue")?;
    all.run(1, "blue", "one", &[])?;
    reaches(all.docker(1), "one", &ip)?;
    let log = std::fs::read_to_string(all.world.host(1).work().path().join("agent.log"))?;
    ensure!(
        log.contains("two") && log.contains("host2"),
        "not said who uses it: {log}"
    );
    Ok(())
}

/// Two hosts at one moment: one network survives, on both.
#[test]
fn made_on_two_hosts_at_once() -> Result<()> {
    let all = Dockers::new()?;
    std::thread::scope(|scope| {
        let made = [1, 2].map(|n| {
            let all = &all;
            scope.spawn(move || all.create(n, "blue", &[]))
        });
        for made in made {
            made.join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let (one, two) = until(CONVERGE, || {
        for docker in &all.dockers {
            ensure!(networks(docker)? == ["blue"], "{:?}", networks(docker)?);
        }
        let subnet = |n: usize| {
            let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
            all.docker(n)
                .cli_ok(&["network", "inspect", "-f", format, "blue"])
        };
        let subnets = [subnet(1)?, subnet(2)?];
        ensure!(subnets[0] == subnets[1], "{subnets:?}");
        let one = all.run(1, "blue", "one", &[]).or_else(|error| {
            all.docker(1).cli(&["rm", "-f", "one"])?;
            Err(error)
        })?;
        let two = all.run(2, "blue", "two", &[]).or_else(|error| {
            for (n, name) in [(1, "one"), (2, "two")] {
                all.docker(n).cli(&["rm", "-f", name])?;
            }
            Err(error)
        })?;
        Ok((one, two))
    })?;
    reaches(all.docker(1), "one", &two)?;
    reaches(all.docker(2), "two", &one)?;
    let networks = all.world.host(1).cli_json(&["network", "ls"])?;
    ensure!(
        networks.as_array().is_some_and(|all| all.len() == 1),
        "{networks}"
    );
    // Nothing of the loser's is left in the store.
    let keys = crate::support::snapshot::keys(&all.world, "vnis/")?;
    ensure!(keys.len() == 1, "{keys:?}");
    Ok(())
}

#[test]
fn mistakes_are_told() -> Result<()> {
    let all = Dockers::new()?;
    all.create(1, "blue", &["--subnet", "10.55.0.0/24", "-o", "vni=5"])?;
    all.everywhere("blue")?;
    let create = |more: &[&str]| {
        let args = ["network", "create", "-d", DRIVER, "--ipam-driver", DRIVER];
        all.docker(1).cli(&[&args, more, &["red"]].concat())
    };
    for (more, wanted) in [
        (
            &["-o", "vnid=7"][..],
            "no driver option `vnid`: there are vni, mtu",
        ),
        (&["-o", "vni=5"], "VNI 5 is taken by the network `blue`"),
        (
            &["--subnet", "10.55.0.128/25"],
            "subnet 10.55.0.128/25 overlaps network blue",
        ),
        (
            &["--subnet", "192.0.2.0/25"],
            "overlaps 192.0.2.0/24, which this host has a route to",
        ),
        (
            &["--subnet", "10.56.0.0/24", "-o", "mtu=9000"],
            "MTU 9000 does not fit",
        ),
        (&["-o", "flood=all"], "driver option flood=all"),
    ] {
        let said = create(more)?;
        ensure!(
            said.code == 1 && said.stderr.contains(wanted),
            "{more:?}: {said:?}"
        );
    }
    let eight: Vec<_> = (0..9).map(|k| format!("a{k}=10.56.0.{}", k + 9)).collect();
    let mut aux = vec!["--subnet", "10.56.0.0/24"];
    aux.extend(eight.iter().flat_map(|one| ["--aux-address", one]));
    let said = create(&aux)?;
    ensure!(
        said.code == 1 && said.stderr.contains("9 reserved addresses"),
        "{said:?}"
    );
    let said = create(&["-o", "network=blue"])?;
    ensure!(
        said.code == 1 && said.stderr.contains("is the agent's own"),
        "{said:?}"
    );
    let args = ["network", "create", "-d", DRIVER, "red"];
    let said = all.docker(1).cli(&args)?;
    ensure!(said.code == 1, "{said:?}");
    ensure!(
        said.stderr.contains("give --ipam-driver overlay-ebpf"),
        "{said:?}"
    );
    ensure!(networks(all.docker(1))? == ["blue"]);
    let keys = crate::support::snapshot::keys(&all.world, "vnis/")?;
    ensure!(keys.len() == 1, "{keys:?}");
    let gateway = [
        "run",
        "--rm",
        "--network",
        "blue",
        "--ip",
        "10.55.0.1",
        "busybox",
        "true",
    ];
    let said = all.docker(1).cli(&gateway)?;
    ensure!(
        said.stderr.contains("10.55.0.1 is the network's gateway"),
        "{said:?}"
    );
    all.run(2, "blue", "two", &["--ip", "10.55.0.77"])?;
    let taken = [
        "run",
        "--rm",
        "--network",
        "blue",
        "--ip",
        "10.55.0.77",
        "busybox",
        "true",
    ];
    let said = until(CONVERGE, || {
        let said = all.docker(1).cli(&taken)?;
        ensure!(
            said.stderr.contains("10.55.0.77 is taken by endpoint two"),
            "{said:?}"
        );
        Ok(said)
    })?;
    ensure!(said.stderr.contains("on host2"), "{said:?}");
    Ok(())
}

/// One after the other and at once, and gone before anybody knew: each its own subnet, nothing left.
#[test]
fn made_in_a_hurry() -> Result<()> {
    let all = Dockers::new()?;
    all.create(1, "a", &[])?;
    all.create(1, "b", &[])?;
    std::thread::scope(|scope| {
        let made = [(1, "c"), (1, "d"), (2, "e"), (2, "f")].map(|(n, name)| {
            let all = &all;
            scope.spawn(move || all.create(n, name, &[]))
        });
        for made in made {
            made.join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        all.everywhere(name)?;
    }
    let listed = all.world.host(1).cli_json(&["network", "ls"])?;
    let listed = listed.as_array().context("no list")?;
    let mut subnets: Vec<_> = listed
        .iter()
        .map(|one| one["subnets"].to_string())
        .collect();
    subnets.sort();
    subnets.dedup();
    ensure!(subnets.len() == names.len(), "{listed:?}");
    for (n, name) in [(1, "a"), (1, "b"), (2, "c")] {
        let container = format!("in-{name}");
        all.run(n, name, &container, &[])?;
        all.docker(n).cli_ok(&["rm", "-f", &container])?;
    }
    for (n, name) in [1, 1, 1, 2, 2, 2].into_iter().zip(names) {
        all.docker(n).cli_ok(&["network", "rm", name])?;
    }
    all.create(1, "g", &[])?;
    all.docker(1).cli_ok(&["network", "rm", "g"])?;
    for name in names.into_iter().chain(["g"]) {
        all.nowhere(name)?;
    }
    for folder in ["vnis/", "addresses/", "index/"] {
        let left = crate::support::snapshot::keys(&all.world, folder).unwrap_or_default();
        ensure!(left.is_empty(), "{left:?}");
    }
    Ok(())
}

/// Docker up to 27 makes no network without IPv4: it is not there, and the agent says so.
#[test]
fn without_ipv4() -> Result<()> {
    let all = Dockers::new()?;
    all.world
        .create_network("six", &["--subnet", "fd66::/64"])?;
    if DockerVersion::from_env()? == DockerVersion::V28_5 {
        all.everywhere("six")?;
        all.docker(1).cli_ok(&[
            "run",
            "-d",
            "--init",
            "--network",
            "six",
            "--name",
            "one",
            IMAGE,
            "sleep",
            "1000",
        ])?;
        let link = all.docker(1).cli_ok(&["exec", "one", "ip", "addr"])?;
        ensure!(link.contains("fd66::"), "{link}");
        return Ok(());
    }
    until(CONVERGE, || {
        let status = all.world.host(2).cli_json(&["status"])?;
        let problems = status["problems"].to_string();
        ensure!(
            problems.contains("six") && problems.contains("no IPv4 subnet"),
            "{status}"
        );
        Ok(())
    })?;
    ensure!(networks(all.docker(1))?.is_empty());
    Ok(())
}

/// A network of another driver has the name on one host.
#[test]
fn the_name_is_taken_by_another_driver() -> Result<()> {
    let all = Dockers::new()?;
    all.docker(2).cli_ok(&["network", "create", "blue"])?;
    all.create(1, "blue", &[])?;
    let problems = |wanted: bool| {
        until(CONVERGE, || {
            let status = all.world.host(2).cli_json(&["status"])?;
            let told = status["problems"]
                .to_string()
                .contains("its name is taken there");
            ensure!(told == wanted, "{status}");
            Ok(())
        })
    };
    problems(true)?;
    all.docker(2).cli_ok(&["network", "rm", "blue"])?;
    all.everywhere("blue")?;
    problems(false)
}
