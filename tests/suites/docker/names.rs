//! Names of containers, as containers ask for them: image unchanged, by Docker's own resolver.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hickory_proto::rr::RecordType::A;
use nix::sys::signal::Signal;
use tests::docker::{Docker, Options};
use tests::wait::until;

use super::world::{Dockers, address, reaches, start_agent};
use crate::support::CONVERGE;
use crate::support::dns::{Reply, Upstream, ask};

pub(super) const SERVICE: &str = "169.254.53.53";

/// A name follows its container within this time.
const SECOND: Duration = Duration::from_secs(1);

/// Each daemon tells its containers of the service, and of a second server.
fn dockers() -> Result<Dockers> {
    // The store's machine is also the server out there: the first that is plugged in behind the hosts.
    let second = Ipv4Addr::new(192, 0, 2, 3).to_string();
    let args = ["--dns", SERVICE, "--dns", &second].map(str::to_owned);
    let all = Dockers::with(&Options {
        args: args.into(),
        ..Options::default()
    })?;
    ensure!(all.world.store_station.ip.to_string() == second);
    Ok(all)
}

/// What a name means in a container; empty for nobody.
fn lookup(docker: &Docker, from: &str, name: &str) -> Result<Vec<String>> {
    let said = docker.cli(&["exec", from, "nslookup", name])?;
    // The server's own address comes first.
    let answer = said
        .stdout
        .split_once("\n\n")
        .map_or("", |(_, answer)| answer);
    let lines = answer.lines().filter(|line| line.starts_with("Address"));
    let addresses = lines.filter_map(|line| line.split_whitespace().last());
    Ok(addresses.map(str::to_owned).collect())
}

fn becomes(docker: &Docker, from: &str, name: &str, wanted: &[&str]) -> Result<()> {
    until(CONVERGE, || {
        let said = lookup(docker, from, name)?;
        ensure!(
            said == wanted,
            "{from} finds {name} at {said:?}, not {wanted:?}"
        );
        Ok(())
    })
}

#[test]
fn by_name_on_normal_and_internal_networks() -> Result<()> {
    let all = dockers()?;
    for (network, more) in [("blue", &[][..]), ("inner", &["--internal"])] {
        all.create(1, network, more)?;
        all.everywhere(network)?;
        let master = all.run(1, network, &format!("master-{network}"), &[])?;
        let slaver = all.run(2, network, &format!("slaver-{network}"), &[])?;
        let (one, two) = (format!("master-{network}"), format!("slaver-{network}"));
        becomes(all.docker(1), &one, &two, &[&slaver])?;
        reaches(all.docker(1), &one, &two)?;
        reaches(all.docker(2), &two, &one)?;
        reaches(all.docker(2), &two, &format!("{one}.{network}"))?;
        let said = all.docker(2).cli_ok(&["exec", &two, "nslookup", &master])?;
        ensure!(said.contains(&format!("{one}.{network}")), "{said}");
    }
    let out_there = Upstream::ANSWER.to_string();
    becomes(all.docker(1), "master-blue", "www.example", &[&out_there])?;
    // There is no way out of an internal network, and that is told soon.
    let asked = all.upstream.asked();
    let since = Instant::now();
    ensure!(lookup(all.docker(1), "master-inner", "more.example")?.is_empty());
    ensure!(since.elapsed() < 2 * SECOND, "took {:?}", since.elapsed());
    ensure!(all.upstream.asked() == asked, "the question got out");
    Ok(())
}

#[test]
fn names_follow_containers() -> Result<()> {
    let all = dockers()?;
    all.create(1, "blue", &[])?;
    all.everywhere("blue")?;
    all.run(1, "blue", "asks", &[])?;
    let aliases = ["--network-alias", "db", "--network-alias", "store"];
    let ip = all.run(2, "blue", "one", &aliases)?;
    let (one, two) = (all.docker(1), all.docker(2));
    let id = two.cli_ok(&["inspect", "-f", "{{.Id}}", "one"])?;
    for name in ["one", "ONE", "db", "store", &id[..12]] {
        becomes(one, "asks", name, &[&ip])?;
    }
    let second = all.run(2, "blue", "two", &["--network-alias", "db"])?;
    until(CONVERGE, || {
        let mut found = lookup(one, "asks", "db")?;
        found.sort();
        let mut both = vec![ip.clone(), second.clone()];
        both.sort();
        ensure!(found == both, "{found:?}, not {both:?}");
        Ok(())
    })?;

    let mut times = Vec::new();
    let mut follows = |what: &str, name: &str, wanted: &[&str]| {
        let since = Instant::now();
        becomes(one, "asks", name, wanted)?;
        times.push(format!("{what} {:?}", since.elapsed()));
        ensure!(
            since.elapsed() < SECOND,
            "{what} took {:?}",
            since.elapsed()
        );
        anyhow::Ok(())
    };
    two.cli_ok(&["rename", "one", "uno"])?;
    follows("rename", "uno", &[&ip])?;
    follows("the old name", "one", &[])?;
    follows("its alias", "store", &[&ip])?;
    two.cli_ok(&["network", "disconnect", "blue", "uno"])?;
    follows("disconnect", "uno", &[])?;
    two.cli_ok(&["network", "connect", "--alias", "back", "blue", "uno"])?;
    let ip = address(two, "blue", "uno")?;
    follows("connect", "uno", &[&ip])?;
    follows("its new alias", "back", &[&ip])?;
    two.cli_ok(&["rm", "-f", "uno"])?;
    follows("removal", "uno", &[])?;
    let ip = all.run(2, "blue", "three", &["--network-alias", "third"])?;
    follows("start", "three", &[&ip])?;
    follows("its first alias", "third", &[&ip])?;
    println!("{times:?}");
    Ok(())
}

#[test]
fn two_networks_of_a_container() -> Result<()> {
    let all = dockers()?;
    for network in ["blue", "red", "inner"] {
        let more: &[&str] = if network == "inner" {
            &["--internal"]
        } else {
            &[]
        };
        all.create(1, network, more)?;
        all.everywhere(network)?;
    }
    let one = all.docker(1);
    all.run(1, "blue", "both", &[])?;
    one.cli_ok(&["network", "connect", "red", "both"])?;
    one.cli_ok(&["network", "connect", "inner", "both"])?;
    all.run(1, "red", "only-red", &[])?;
    let blue = all.run(2, "blue", "web", &["--network-alias", "blue-web"])?;
    let red = all.run(2, "red", "db", &["--network-alias", "www"])?;
    let inner = all.run(2, "inner", "secret", &[])?;
    for (name, ip) in [("web", &blue), ("db", &red), ("secret", &inner)] {
        becomes(one, "both", name, &[ip])?;
    }
    becomes(one, "only-red", "db", &[&red])?;
    for other in ["web", "blue-web", "web.blue", "secret"] {
        ensure!(
            lookup(one, "only-red", other)?.is_empty(),
            "{other} is known"
        );
    }
    // The way that is left serves as well.
    one.cli_ok(&["network", "disconnect", "blue", "both"])?;
    becomes(one, "both", "db", &[&red])?;
    becomes(one, "both", "web", &[])?;
    one.cli_ok(&["network", "connect", "blue", "both"])?;
    becomes(one, "both", "web", &[&blue])?;
    // All of them at once, as at each start.
    one.cli_ok(&["restart", "-t", "1", "both"])?;
    for (name, ip) in [("web", &blue), ("db", &red), ("secret", &inner)] {
        becomes(one, "both", name, &[ip])?;
    }
    one.cli_ok(&["network", "disconnect", "red", "both"])?;
    one.cli_ok(&["network", "disconnect", "blue", "both"])?;
    becomes(one, "both", "secret", &[&inner])
}

/// What Docker tells while the store is away is not forgotten.
#[test]
fn a_rename_without_a_store() -> Result<()> {
    let mut all = dockers()?;
    all.create(1, "blue", &[])?;
    all.everywhere("blue")?;
    all.run(1, "blue", "asks", &[])?;
    let ip = all.run(2, "blue", "before", &["--network-alias", "db"])?;
    becomes(all.docker(1), "asks", "before", &[&ip])?;
    all.consul()?.signal(Signal::SIGSTOP)?;
    all.docker(2).cli_ok(&["rename", "before", "after"])?;
    std::thread::sleep(2 * SECOND);
    all.consul()?.signal(Signal::SIGCONT)?;
    let one = all.docker(1);
    until(2 * CONVERGE, || {
        let after = lookup(one, "asks", "after")?;
        ensure!(after == [ip.as_str()], "after: {after:?}");
        Ok(())
    })?;
    becomes(one, "asks", "db", &[&ip])?;
    becomes(one, "asks", "before", &[])
}

/// A container that has no part in any overlay asks the same server, which is the host's then. And while there
/// is no agent, everybody asks the second one.
#[test]
fn names_out_there_without_an_overlay_or_an_agent() -> Result<()> {
    let mut all = dockers()?;
    all.create(1, "blue", &[])?;
    all.everywhere("blue")?;
    all.run(1, "blue", "inside", &[])?;
    all.run(1, "bridge", "outside", &[])?;
    let out_there = Upstream::ANSWER.to_string();
    let soon = |all: &Dockers, when: &str| {
        for name in ["inside", "outside"] {
            let since = Instant::now();
            let found = lookup(all.docker(1), name, "www.example")?;
            ensure!(found == [out_there.as_str()], "{when}, {name}: {found:?}");
            ensure!(
                since.elapsed() < 2 * SECOND,
                "{when}, {name}: {:?}",
                since.elapsed()
            );
        }
        anyhow::Ok(())
    };
    soon(&all, "with an agent")?;
    let of_host = |all: &Dockers| ask(all.world.host(1).netns(), "more.example", A);
    ensure!(of_host(&all)? == Reply::of(&[&out_there]));
    all.world.host_mut(1).agent()?.kill9()?;
    std::thread::sleep(SECOND);
    soon(&all, "without")?;
    ensure!(of_host(&all).is_err_and(|error| format!("{error:?}").contains("refused")));
    let Dockers { dockers, world, .. } = &mut all;
    start_agent(world, 1, &dockers[0])?;
    let ip = all.run(2, "blue", "late", &[])?;
    becomes(all.docker(1), "inside", "late", &[&ip])?;
    soon(&all, "with it again")
}
