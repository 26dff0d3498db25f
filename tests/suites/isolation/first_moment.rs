//! From its first moment to its last, nothing gets past the programs into the host's own stack.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_common::net::MacAddr;
use tests::netns::Netns;
use tests::traffic::udp::UdpCounter;
use tests::wait::until;

use crate::support::{CONVERGE, Flood, StoreKind, World, mac_of, send_raw, udp_frame};

/// Where the host would take the broadcasts, if they came to it.
const LEAK: u16 = 7777;
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);
/// Enough that a millisecond without a program does not go unnoticed.
const SOME: u64 = 2000;

/// A broadcast that any host which receives it gives to its sockets.
fn broadcast() -> Result<Vec<u8>> {
    let from = (MAC, Ipv4Addr::new(10, 9, 0, 9));
    udp_frame(from, (MacAddr::BROADCAST, Ipv4Addr::BROADCAST), LEAK)
}

/// Counts what gets into the stack of a namespace.
struct Leak(UdpCounter);

impl Leak {
    /// Shows first that it would notice.
    fn watch(host: &Netns) -> Result<Self> {
        let leak = UdpCounter::start(host, (Ipv4Addr::UNSPECIFIED, LEAK).into(), None)?;
        let control = Netns::new("control")?;
        control.connect("eth0", host, "control")?;
        until(CONVERGE, || {
            send_raw(&control, &broadcast()?)?;
            ensure!(leak.received() > 0, "an open device does not leak");
            Ok(())
        })?;
        host.ip(&["link", "delete", "control"])?;
        Ok(Self(leak))
    }

    fn received(&self) -> u64 {
        self.0.received()
    }

    /// Fails if anything got in during `act`.
    fn none(&self, what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.settled()?;
        act()?;
        let leaked = self.settled()? - before;
        ensure!(leaked == 0, "{what}: {leaked} frames reached the host");
        Ok(())
    }

    /// The count once it stands still.
    fn settled(&self) -> Result<u64> {
        until(CONVERGE, || {
            let before = self.received();
            std::thread::sleep(Duration::from_millis(100));
            ensure!(self.received() == before, "still leaking");
            Ok(before)
        })
    }
}

#[test]
fn of_a_container() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let url = world.store.url();
    world.host_mut(1).start_agent(&url)?;
    let subnet = ["--subnet", "10.9.0.0/24"];
    world
        .host(1)
        .cli_ok(&[&["network", "create", "blue"][..], &subnet].concat())?;
    let leak = Leak::watch(world.host(1).netns())?;
    let container = world.host(1).container("flood")?;
    let flood = Flood::frames(&container, broadcast()?)?;
    let mac = MAC.to_string();
    let endpoint = ["--name", "flood", "--mac", &mac];

    leak.none("added and removed", || {
        for _ in 0..5 {
            world.host(1).add_endpoint("blue", &container, &endpoint)?;
            flood.goes_on(SOME)?;
            judged(&world)?;
            world.host(1).cli_ok(&["endpoint", "rm", "flood"])?;
        }
        Ok(())
    })?;
    // There was no moment with a program and no record.
    ensure!(dropped(&world, "unknown_interface")? == 0.0);

    world.host(1).add_endpoint("blue", &container, &endpoint)?;
    ensure!(mac_of(&container)? == MAC);
    leak.none("the programs taken off", || {
        world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
        world.host(1).cli_ok(&["detach"])?;
        flood.goes_on(SOME)
    })?;
    leak.none("and put on again", || {
        world.host(1).cli_ok(&["attach", "--underlay", "eth0"])?;
        flood.goes_on(SOME)?;
        world.host_mut(1).start_agent(&url)?;
        judged(&world)
    })?;

    // The pin is lost: the bridge, whose port the device is, takes nothing either. Whoever takes that away as well lets
    // the container out, and the next agent keeps it in.
    let listed = world.host(1).cli_json(&["endpoint", "ls"])?;
    let device = listed[0]["device"]
        .as_str()
        .context("no device")?
        .to_owned();
    world.host_mut(1).agent()?.kill9()?;
    let links = world.host(1).pins().join("links");
    for entry in fs::read_dir(&links).context("list the links")? {
        let path = entry?.path();
        if path.to_string_lossy().contains("/endpoint-") {
            fs::remove_file(path)?;
        }
    }
    leak.none("the pin lost", || flood.goes_on(SOME))?;
    let before = leak.received();
    let alone = ["link", "set", device.as_str(), "nomaster"];
    world.host(1).netns().ip(&alone)?;
    until(CONVERGE, || {
        ensure!(leak.received() > before, "there was a second program");
        Ok(())
    })?;
    world.host_mut(1).start_agent(&url)?;
    leak.none("after a restart without its pin", || judged(&world))?;

    leak.none("everything removed", || {
        world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
        world.host(1).cli_ok(&["detach", "--all"])?;
        Ok(())
    })
}

/// Broadcasts in tunnels, from a stranger, while the fallback device comes and goes.
#[test]
fn of_a_tunnel() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let stranger = world.lab.station("stranger")?;
    let url = world.store.url();
    let leak = Leak::watch(world.host(1).netns())?;
    let flood = Flood::vxlan(&stranger.netns, world.host(1).ip(), 42, &broadcast()?)?;
    for _ in 0..3 {
        leak.none("started and stopped", || {
            flood.goes_on(SOME)?;
            world.host_mut(1).start_agent(&url)?;
            let before = dropped(&world, "unknown_peer")?;
            until(CONVERGE, || {
                ensure!(dropped(&world, "unknown_peer")? > before, "not judged");
                Ok(())
            })?;
            world.host_mut(1).agent()?.stop(Duration::from_secs(10))?;
            world.host(1).cli_ok(&["detach"])?;
            flood.goes_on(SOME)?;
            world.host(1).cli_ok(&["attach", "--underlay", "eth0"])?;
            flood.goes_on(SOME)?;
            world.host(1).cli_ok(&["detach", "--all"])?;
            flood.goes_on(SOME)
        })?;
    }
    Ok(())
}

/// Waits until the container's frames are dropped as what they are.
fn judged(world: &World) -> Result<()> {
    let before = dropped(world, "flood_disabled")?;
    until(CONVERGE, || {
        ensure!(dropped(world, "flood_disabled")? > before, "not judged");
        Ok(())
    })
}

fn dropped(world: &World, reason: &str) -> Result<f64> {
    let metrics = world.host(1).metrics()?;
    let sum = metrics.sum("overlay_vni_drops_total", &[("reason", reason)])?;
    Ok(sum.unwrap_or(0.0))
}
