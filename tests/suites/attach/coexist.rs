//! Beside somebody else's programs at the underlay's TC hook.

use std::net::Ipv4Addr;

use aya::maps::{MapData, PerCpuHashMap};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use etherparse::PacketBuilder;
use overlay_agent::datapath::object::OBJECT;
use overlay_agent::datapath::{Datapath, XdpMode, detach_all};
use overlay_common::DropReason;
use overlay_common::layout::DropKey;
use overlay_common::maps::{DROPS, FROM_ENDPOINT, TO_UNDERLAY};
use tests::bpffs::BpfDir;
use tests::wait::until;

use super::world::{HOST_IP, NEIGHBOR_IP, PORT, UNDERLAY, World};
use crate::support::{CONVERGE, mac_of, send_raw};

/// Somebody's program at the ingress of the underlay.
struct Foreign {
    ebpf: Ebpf,
    // After `ebpf`: the pins go when nothing uses them any more.
    _pins: BpfDir,
}

impl Foreign {
    /// Of the programs at hand: `from_endpoint` drops and counts all that it meets on a device it
    /// knows nothing of, `to_underlay` lets it go on.
    fn attach(world: &World, program: &str) -> Self {
        let pins = BpfDir::new("foreign").unwrap();
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(pins.path())
            .load(OBJECT)
            .unwrap();
        let program: &mut SchedClassifier = ebpf.program_mut(program).unwrap().try_into().unwrap();
        program.load().unwrap();
        world
            .host
            .run(|| {
                let options = TcAttachOptions::TcxOrder(LinkOrder::default());
                Ok(program.attach_with_options(UNDERLAY, TcAttachType::Ingress, options)?)
            })
            .unwrap();
        Self { ebpf, _pins: pins }
    }

    fn met(&self) -> u64 {
        let drops: PerCpuHashMap<&MapData, DropKey, u64> =
            PerCpuHashMap::try_from(self.ebpf.map(DROPS).unwrap()).unwrap();
        drops
            .iter()
            .map(Result::unwrap)
            .filter(|(key, _)| key.reason == DropReason::UnknownInterface as u8)
            .map(|(_, counts)| counts.iter().sum::<u64>())
            .sum()
    }
}

/// A world in which nothing is sent but what is sent here.
fn quiet() -> World {
    let world = World::new();
    for netns in [&world.host, &world.neighbor] {
        netns
            .sysctl("net.ipv6.conf.eth0.disable_ipv6", "1")
            .unwrap();
    }
    world
}

/// Without a UDP checksum, so that it is not for the kernel to verify.
fn send(world: &World, port: u16, count: u64) {
    let [from, to] = [&world.neighbor, &world.host].map(|netns| mac_of(netns).unwrap());
    let ips = [NEIGHBOR_IP, HOST_IP].map(|ip| ip.parse::<Ipv4Addr>().unwrap().octets());
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.0, to.0)
        .ipv4(ips[0], ips[1], 64)
        .udp(50000, port)
        // Long enough for the headers of VXLAN.
        .write(&mut frame, &[8; 100])
        .unwrap();
    frame[40..42].fill(0);
    for _ in 0..count {
        send_raw(&world.neighbor, &frame).unwrap();
    }
}

/// VXLAN of nobody we know, dropped by our own program.
fn dropped(world: &World) -> u64 {
    let tables = Datapath::maps_only(&world.paths()).unwrap();
    let drops = tables.drops().unwrap();
    drops
        .iter()
        .filter(|(key, _)| key.reason == DropReason::UnknownPeer as u8)
        .map(|(_, count)| count)
        .sum()
}

fn becomes(wanted: u64, what: &str, read: impl Fn() -> u64) {
    until(CONVERGE, || {
        let found = read();
        anyhow::ensure!(found == wanted, "{what}: {found}, not {wanted}");
        Ok(())
    })
    .unwrap();
}

/// What is not ours goes on to it, what is ours does not; and it stays when we go.
#[test]
fn a_foreign_program_behind_ours() {
    let world = quiet();
    world.open(XdpMode::Off).unwrap();
    let foreign = Foreign::attach(&world, FROM_ENDPOINT);
    let chain = ["from_underlay", "from_endpoint"];
    assert_eq!(world.programs(UNDERLAY), chain);
    send(&world, 9, 10);
    becomes(10, "unrelated packets", || foreign.met());
    send(&world, PORT, 10);
    becomes(10, "dropped by us", || dropped(&world));
    assert_eq!(foreign.met(), 10, "VXLAN went on to it");

    world.open(XdpMode::Off).unwrap();
    assert_eq!(world.programs(UNDERLAY), chain, "replaced in place");
    let detached = world.on_host(async || detach_all(&world.paths()).await);
    assert!(detached.errors.is_empty(), "{:?}", detached.errors);
    assert_eq!(world.programs(UNDERLAY), ["from_endpoint"]);
    send(&world, PORT, 10);
    becomes(20, "VXLAN without us", || foreign.met());
}

/// What it lets go on comes to us.
#[test]
fn a_foreign_program_before_ours() {
    let world = quiet();
    let _foreign = Foreign::attach(&world, TO_UNDERLAY);
    world.open(XdpMode::Off).unwrap();
    assert_eq!(world.programs(UNDERLAY), ["to_underlay", "from_underlay"]);
    send(&world, PORT, 10);
    becomes(10, "dropped by us", || dropped(&world));
    let detached = world.on_host(async || detach_all(&world.paths()).await);
    assert!(detached.errors.is_empty(), "{:?}", detached.errors);
    assert_eq!(world.programs(UNDERLAY), ["to_underlay"]);
}
