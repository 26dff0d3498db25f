//! What keeps an agent from starting. Besides the log, each leaves the host as it was.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::agent::{METRICS, binary};
use tests::lab::{Host, Lab};
use tests::workdir::WorkDir;

use super::pretend::{as_linux_2_6, as_nobody, without_bpffs, without_tcx};
use super::{ended, is_refusal, unchanged};
use crate::support::traces::Traces;

/// A host without an agent, and what it looked like.
struct World {
    lab: Lab,
    before: Traces,
}

impl World {
    fn new() -> Result<Self> {
        let lab = Lab::switched(1)?;
        let before = Traces::settled(&lab.hosts[0])?;
        Ok(Self { lab, before })
    }

    fn host(&self) -> &Host {
        &self.lab.hosts[0]
    }

    /// That `run` and `attach` are refused with these arguments, and leave nothing.
    fn refuses(
        &self,
        args: &[&str],
        says: &[&str],
        prepare: impl Fn(&mut Command) -> Result<()>,
    ) -> Result<()> {
        for action in ["run", "attach"] {
            let args = [&[action], args].concat();
            let mut command = self.host().command(&args)?;
            prepare(&mut command)?;
            let said = ended(command)?;
            is_refusal(&said, 1, says).with_context(|| args.join(" "))?;
            unchanged(self.host(), &self.before)?;
        }
        Ok(())
    }

    /// The same for what is refused before a file is made.
    fn refuses_at_once(
        &self,
        args: &[&str],
        says: &[&str],
        prepare: impl Fn(&mut Command) -> Result<()>,
    ) -> Result<()> {
        self.refuses(args, says, prepare)?;
        ensure!(self.files()? == [""; 0], "{args:?}: {:?}", self.files()?);
        Ok(())
    }

    /// In the run and the state directory.
    fn files(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for folder in ["run", "state"] {
            for entry in fs::read_dir(self.host().work().folder(folder)?)? {
                found.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        found.sort();
        Ok(found)
    }
}

fn nothing(_: &mut Command) -> Result<()> {
    Ok(())
}

const UNDERLAY: &[&str] = &["--underlay", "eth0"];

#[test]
fn this_host_cannot() -> Result<()> {
    let mut world = World::new()?;
    // Everybody may run this copy.
    let public = WorkDir::new("public")?;
    let program = public.path().join("overlay-agent");
    fs::copy(binary()?, &program).context("copy the agent")?;

    for args in [
        &["run", "--underlay", "eth0"][..],
        &["attach"],
        &["detach", "--all"],
    ] {
        let mut command = world.host().netns().command(&program)?;
        command.args(args);
        for (name, value) in world.host().command(&[])?.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        as_nobody(&mut command);
        let said = ended(command)?;
        is_refusal(&said, 1, &["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "run as root"])?;
        unchanged(world.host(), &world.before)?;
        ensure!(world.files()? == [""; 0], "{:?}", world.files()?);
    }

    let elsewhere = public.path().join("pins");
    let path = elsewhere.to_str().context("path")?;
    world.refuses_at_once(
        UNDERLAY,
        &[
            "no bpf filesystem at",
            &format!("`mount -t bpf bpf {path}`"),
        ],
        |command| {
            command.env("OVERLAY_BPFFS_DIR", &elsewhere);
            Ok(())
        },
    )?;
    ensure!(!elsewhere.exists(), "made {path}");
    world.refuses_at_once(
        UNDERLAY,
        &["no bpf filesystem at", "`mount -t bpf bpf /sys/fs/bpf`"],
        |command| {
            command.env("OVERLAY_BPFFS_DIR", "/sys/fs/bpf/overlay");
            without_bpffs(command);
            Ok(())
        },
    )?;
    world.refuses_at_once(
        UNDERLAY,
        &["Linux 2.6.", "too old", "6.6 or newer"],
        |command| {
            as_linux_2_6(command);
            Ok(())
        },
    )?;
    world.refuses_at_once(UNDERLAY, &["TCX", "CONFIG_NET_XGRESS=y"], |command| {
        without_tcx(command);
        Ok(())
    })?;

    // Nothing of this has spoilt the right start.
    world.lab.hosts[0].start_agent("embedded")
}

#[test]
fn these_settings_do_not_fit() -> Result<()> {
    let mut world = World::new()?;
    let netns = world.host().netns();
    netns.ip(&[
        "link", "add", "bare", "type", "veth", "peer", "name", "down",
    ])?;
    netns.ip(&["link", "set", "bare", "up"])?;
    netns.ip(&["addr", "add", "198.51.100.1/24", "dev", "down"])?;
    world.before = Traces::settled(world.host())?;
    let config = world.host().work().path().join("config.toml");
    let path = config.to_str().context("path")?;

    for (args, says) in [
        (
            &["--underlay", "eth9"][..],
            &["underlay device eth9 does not exist", "`ip link`"][..],
        ),
        (
            &["--underlay", "bare"],
            &[
                "underlay device bare",
                "no global IPv4 or IPv6 address",
                "give it one",
            ],
        ),
        (
            &["--underlay", "down"],
            &["underlay device down is down", "`ip link set down up`"],
        ),
        (
            &["--advertise", "192.0.2.77"],
            &["192.0.2.77 is not an address of this host"],
        ),
        (
            &["--underlay", "eth0", "--advertise", "192.0.2.77"],
            &[
                "192.0.2.77 is not an address of eth0",
                "`ip address show eth0`",
            ],
        ),
        (&[], &["no default route", "--underlay", "--advertise"]),
        (
            &["--config", "/nonexistent"],
            &["configuration file /nonexistent", "No such file"],
        ),
    ] {
        world.refuses_at_once(args, says, nothing)?;
    }
    fs::write(&config, "# Settings\nprot = 4789\n")?;
    world.refuses_at_once(
        &["--config", path],
        &["config.toml:2:", "`prot`", "`port`"],
        nothing,
    )?;

    for (args, says) in [
        (
            &["run", "--underlay", "eth0", "--store", "ftp://x"][..],
            &["`ftp://x`", "--store", "http://"][..],
        ),
        (
            &["run", "--underlay", "eth0", "--store-prefix", "//"],
            &["prefix `//`", "`overlay/`"],
        ),
        (
            &["run", "--underlay", "eth0", "--node-name", "a/b"],
            &["--node-name", "`a/b`"],
        ),
    ] {
        let said = ended(world.host().command(args)?)?;
        is_refusal(&said, 1, says)?;
        unchanged(world.host(), &world.before)?;
        ensure!(world.files()? == [""; 0], "{:?}", world.files()?);
    }
    world.lab.hosts[0].start_agent("embedded")
}

#[test]
fn ports_are_taken() -> Result<()> {
    let mut world = World::new()?;
    let netns = world.host().netns();
    let vxlan = netns.run(|| Ok(UdpSocket::bind(("0.0.0.0", 4789))?))?;
    world.refuses(
        UNDERLAY,
        &[
            "UDP port 4789 is in use",
            "`ss -ulnp 'sport = :4789'`",
            "--port",
        ],
        nothing,
    )?;
    drop(vxlan);

    // One that takes every VNI is in the way of making ours, the other of bringing it up.
    for kind in [["external", "nolearning"], ["id", "5"]] {
        let netns = world.host().netns();
        let add = ["link", "add", "vx", "type", "vxlan", "dstport", "4789"];
        netns.ip(&[&add[..], &kind].concat())?;
        netns.ip(&["link", "set", "vx", "up"])?;
        let with_device = Traces::settled(world.host())?;
        let clean = std::mem::replace(&mut world.before, with_device);
        world.refuses(
            UNDERLAY,
            &["UDP port 4789 is in use by vxlan device vx", "--port"],
            nothing,
        )?;
        world.host().netns().ip(&["link", "del", "vx"])?;
        world.before = clean;
    }

    let metrics = world
        .host()
        .netns()
        .run(|| Ok(TcpListener::bind(METRICS)?))?;
    let said = ended(world.host().command(&["run", "--underlay", "eth0"])?)?;
    is_refusal(
        &said,
        1,
        &[
            "cannot serve metrics on 127.0.0.1:9469",
            "--metrics-addr",
            "in use",
        ],
    )?;
    unchanged(world.host(), &world.before)?;
    drop(metrics);

    // What stays is whole: who this host is, an empty store, the lock's file.
    let files = world.files()?;
    ensure!(
        files == ["agent.lock", "node-id", "store.redb"],
        "left behind: {files:?}"
    );
    world.lab.hosts[0].start_agent("embedded")
}
