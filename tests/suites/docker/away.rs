//! What becomes of containers and their addresses while the agent or the daemon does not see it.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use tests::docker::IMAGE;

use super::pair::Pair;
use super::world::{Dockers, address, start_agent};

/// On one host Docker removes a container and finds nobody to release it, on the other all of Docker ends at
/// once. The veths went with the containers' namespaces.
#[test]
fn containers_go_while_the_agents_are_away() -> Result<()> {
    let mut pair = Pair::new(false)?;
    let Dockers { dockers, world, .. } = &mut pair.all;
    let [first, second] = dockers;
    for n in [1, 2] {
        world.host_mut(n).agent()?.kill9()?;
    }
    thread::scope(|scope| {
        let removed = scope.spawn(|| first.cli_ok(&["rm", "-f", "one"]));
        second.power_off(world.host(2))?;
        removed.join().map_err(|_| anyhow!("panicked"))?
    })?;
    for (n, docker) in [(1, &*first), (2, &*second)] {
        start_agent(world, n, docker)?;
    }
    second.restart()?;
    pair.nothing_left()
}

/// A daemon that comes back asks for the addresses of its containers as a user asks for one that is taken.
#[test]
fn an_address_is_asked_for_by_daemon_and_user() -> Result<()> {
    let mut pair = Pair::new(true)?;
    pair.all.dockers[0].kill9()?;
    pair.all.dockers[0].restart()?;
    for n in [1, 2] {
        let network = ["--network", "blue", "--ip", &pair.one];
        let args = [&["run", "--rm"][..], &network, &[IMAGE, "true"]].concat();
        let said = pair.all.docker(n).cli(&args)?;
        let taken = format!("{} is taken by endpoint one", pair.one);
        ensure!(said.code != 0 && said.stderr.contains(&taken), "{said:?}");
        ensure!(said.stderr.contains("on host1"), "{said:?}");
    }
    pair.reachable()?;
    ensure!(address(pair.all.docker(1), "blue", "one")? == pair.one);
    // It is free when its container is gone, and not before.
    pair.all.docker(1).cli_ok(&["rm", "-f", "one"])?;
    pair.all.run(2, "blue", "next", &["--ip", &pair.one])?;
    pair.all.docker(2).cli_ok(&["rm", "-f", "next", "two"])?;
    pair.nothing_left()
}
