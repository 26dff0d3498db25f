//! Two agents, where there can be one.

use anyhow::{Context as _, Result, ensure};
use tests::agent::binary;
use tests::workdir::WorkDir;

use super::pretend::as_nobody;
use super::{ended, is_refusal, unchanged};
use crate::support::traces::Traces;
use crate::support::{StoreKind, World, reachable};

/// The second is refused, also when it only brings another run directory; the first goes on.
#[test]
fn two_agents_on_one_host() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 1)?;
    let before = Traces::settled(world.host(1))?;
    let pid = world.host_mut(1).agent()?.pid();
    let elsewhere = WorkDir::new("second")?;

    for args in [
        &["run", "--underlay", "eth0"][..],
        &["attach", "--underlay", "eth0"],
        &["detach"],
        &["detach", "--all"],
    ] {
        let said = ended(world.host(1).command(args)?)?;
        let who = format!("(pid {pid}) is running on");
        is_refusal(&said, 1, &[&who, "/run", "stop it", "--run-dir"])?;
        unchanged(world.host(1), &before)?;

        let mut command = world.host(1).command(args)?;
        command.env("OVERLAY_RUN_DIR", elsewhere.path());
        command.env("OVERLAY_STATE_DIR", elsewhere.path());
        command.env("OVERLAY_METRICS_ADDR", "127.0.0.1:9470");
        let said = ended(command)?;
        let pins = world.host(1).pins().display().to_string();
        is_refusal(&said, 1, &[&pins, "stop it", "--bpffs-dir"])?;
        unchanged(world.host(1), &before)?;
    }
    world.host(1).cli_ok(&["status"])?;
    reachable(&one, &two, 5)
}

/// The agent's socket is root's: others are told so, not that there is no agent.
#[test]
fn somebody_else_asks() -> Result<()> {
    let mut lab = tests::lab::Lab::switched(1)?;
    lab.hosts[0].start_agent("embedded")?;
    let host = &lab.hosts[0];
    let public = WorkDir::new("public")?;
    let program = public.path().join("overlay-agent");
    std::fs::copy(binary()?, &program).context("copy the agent")?;
    for (args, says) in [
        (&["network", "ls"][..], &["agent.sock", "run as root"][..]),
        (&["status"], &["agent.sock", "run as root"]),
        (
            &["network", "create", "blue"],
            &["cannot create network blue", "agent.sock", "run as root"],
        ),
    ] {
        let mut command = host.netns().command(&program)?;
        command.args(args);
        command.env("OVERLAY_CONFIG", "/dev/null");
        command.env("OVERLAY_RUN_DIR", host.work().folder("run")?);
        as_nobody(&mut command);
        is_refusal(&ended(command)?, 1, says)?;
    }
    ensure!(host.cli_ok(&["network", "ls", "-o", "json"])?.trim() == "[]");
    Ok(())
}
