//! The object, loaded with a small world in its maps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aya::maps::{DevMap, HashMap, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues, ProgramArray};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use overlay_agent::datapath::object::OBJECT;
use overlay_agent::datapath::programs::load_classifiers;
use overlay_common::layout::{
    DropKey, EndpointValue, FALLBACK_ENTRIES, FdbKey, FdbValue, NeighborKey, NeighborValue,
    PathStats, PeerValue, TunnelValue, VniValue, Vtep, fdb_flags, neighbor_flags, vni_flags,
};
use overlay_common::maps;
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::packet::encap::Template;
use overlay_common::{Direction, DropReason, FallbackCause};

use super::world::World;

/// This host.
pub const VTEP_IP: [u8; 4] = [192, 0, 2, 1];
pub const PORT: u16 = 4789;
/// Peer 1: reachable. Peer 2: its MAC is unknown. Peer 3: no route.
pub const PEER1_IP: [u8; 4] = [192, 0, 2, 2];
pub const PEER2_IP: [u8; 4] = [192, 0, 2, 3];
pub const PEER3_IP: [u8; 4] = [192, 0, 2, 4];
/// Peer 4: reachable over IPv6.
pub const PEER4_IP: [u8; 4] = [192, 0, 2, 5];

/// Everybody's IPv6 address by the IPv4 one.
pub const fn v6([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

/// The network. Endpoints: A and A2 here, B, C and D at peers 1, 2 and 3.
pub const VNI: u32 = 0x01_02_03;
/// Another network with the same addresses, of which this host has endpoint A2 only.
pub const OTHER_VNI: u32 = 7;
/// A network that carries VLAN tags: A here, B at peer 1.
pub const TAGGED_VNI: u32 = 8;
pub const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
pub const A2: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
pub const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
pub const C: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc]);
pub const D: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xd]);
/// Here, and forwards what it gets.
pub const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaf]);
/// Its entry is of another network: the element was reused while it was read.
pub const STALE: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xff]);
/// At peer 4, which is reached over IPv6.
pub const E: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xe]);
pub const A_IP: [u8; 4] = [10, 0, 0, 1];
pub const A_IP6: [u8; 16] = [0xfd; 16];
pub const A2_IP: [u8; 4] = [10, 0, 0, 2];
pub const B_IP: [u8; 4] = [10, 0, 0, 3];
pub const A2_IP6: [u8; 16] = [0xfd, 0xa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const B_IP6: [u8; 16] = [0xfd, 0xa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
/// The network's gateway. A2 and B have addresses on another subnet, too.
pub const GATEWAY: MacAddr = MacAddr([2, 0x6f, 0x76, 1, 2, 3]);
pub const GATEWAY_IP: [u8; 4] = [10, 0, 0, 254];
pub const GATEWAY_IP6: [u8; 16] = [0xfd, 0xa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe];
pub const A2_FAR: [u8; 4] = [10, 0, 1, 2];
pub const B_FAR: [u8; 4] = [10, 0, 1, 3];
pub const A2_FAR6: [u8; 16] = [0xfd, 0xb, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const B_FAR6: [u8; 16] = [0xfd, 0xb, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
/// Known, and its MAC is not: the tables are behind each other.
pub const STALE_FAR: [u8; 4] = [10, 0, 1, 9];

/// `BPF_PROG_TEST_RUN` runs on the loopback device, which is A's interface here.
pub const LOOPBACK: u32 = 1;
/// Slots of STATS that the world uses, and some more.
const SLOTS: u32 = 8;
const LOCAL_SLOT: u32 = 1;
const PEER_SLOTS: [u32; 4] = [2, 3, 4, 5];
const MTU: u32 = 1500;

pub const SOURCE_MAC: MacAddr = MacAddr([2, 1, 0, 0, 0, 1]);
pub const NEXT_HOP: MacAddr = MacAddr([2, 1, 0, 0, 0, 2]);

pub struct Programs {
    pub ebpf: Ebpf,
    world: World,
    // After `ebpf`: the pins go when nothing uses them any more.
    _bpffs: Bpffs,
}

/// What a program did with one frame.
#[derive(Debug)]
pub struct Run {
    pub verdict: i32,
    pub frame: Vec<u8>,
    /// What XDP put in front of the frame.
    pub metadata: Vec<u8>,
}

/// Segments of an aggregate: payload of each, and how many; both 0 for a plain frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    pub size: u32,
    pub count: u32,
}

impl Programs {
    /// Loads every program, with the small world of [`world`] in the maps.
    pub fn load() -> Self {
        let bpffs = Bpffs::mount();
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(&bpffs.path)
            .load(OBJECT)
            .expect("load the object");
        load_classifiers(&mut ebpf).unwrap_or_else(|error| panic!("{error:?}"));
        let filter: &mut Xdp = ebpf
            .program_mut(maps::UNDERLAY_FILTER)
            .unwrap()
            .try_into()
            .unwrap();
        filter.load().expect("load underlay_filter");
        let mut programs = Self {
            ebpf,
            world: World::default(),
            _bpffs: bpffs,
        };
        programs.set_world(world());
        programs
    }

    /// Makes the maps hold another world.
    pub fn set_world(&mut self, world: World) {
        world.write(&self.world, &mut self.ebpf);
        self.world = world;
    }

    /// Changes the world in the maps.
    pub fn change_world(&mut self, change: impl FnOnce(&mut World)) {
        let mut world = self.world.clone();
        change(&mut world);
        self.set_world(world);
    }

    /// Changes the tunnel to a peer.
    pub fn change_tunnel(&mut self, peer: u32, change: impl FnOnce(&mut TunnelValue)) {
        self.change_world(|world| change(world.tunnels.get_mut(&peer).expect("a tunnel")));
    }

    /// Sets every counter to zero: loading takes most of a second, and a table has many rows.
    pub fn reset(&mut self) {
        let mut drops: PerCpuHashMap<_, DropKey, u64> =
            PerCpuHashMap::try_from(self.ebpf.map_mut(maps::DROPS).unwrap()).unwrap();
        let keys: Vec<DropKey> = drops.keys().map(Result::unwrap).collect();
        for key in keys {
            drops.remove(&key).unwrap();
        }
        let cpus = nr_cpus().unwrap();
        let mut stats: PerCpuArray<_, PathStats> =
            PerCpuArray::try_from(self.ebpf.map_mut(maps::STATS).unwrap()).unwrap();
        for slot in 0..SLOTS {
            let zero = PerCpuValues::try_from(vec![PathStats::default(); cpus]).unwrap();
            stats.set(slot, zero, 0).unwrap();
        }
        let mut fallbacks: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.ebpf.map_mut(maps::FALLBACKS).unwrap()).unwrap();
        for index in 0..FALLBACK_ENTRIES {
            let zero = PerCpuValues::try_from(vec![0; cpus]).unwrap();
            fallbacks.set(index, zero, 0).unwrap();
        }
        self.reset_flood_clocks();
    }

    /// No network has flooded anything for a long time.
    fn reset_flood_clocks(&mut self) {
        let mut clocks: HashMap<_, u32, u64> =
            HashMap::try_from(self.ebpf.map_mut(maps::FLOOD_CLOCKS).unwrap()).unwrap();
        let networks: Vec<u32> = clocks.keys().map(Result::unwrap).collect();
        for vni in networks {
            clocks.remove(&vni).unwrap();
        }
    }

    /// Takes away what `from_endpoint` goes on with.
    pub fn remove_exception_program(&mut self) {
        let map = self.ebpf.map_mut(maps::PROGRAMS).unwrap();
        ProgramArray::try_from(map)
            .and_then(|mut programs| programs.clear_index(&maps::ENDPOINT_EXCEPTION_SLOT))
            .unwrap();
    }

    /// Makes a device the way to the agent.
    pub fn set_service(&mut self, ifindex: u32) {
        let map = self.ebpf.map_mut(maps::SERVICE).unwrap();
        let mut service = DevMap::try_from(map).unwrap();
        service.set(0, ifindex, None, 0).unwrap();
    }

    pub fn remove_endpoint(&mut self) {
        self.change_world(|world| {
            world.endpoints.remove(&LOOPBACK);
        });
    }

    /// Runs a classifier on a frame; `gso_size` other than 0 makes it an aggregate.
    pub fn classify(&self, program: &str, frame: &[u8], gso_size: u32) -> Run {
        let segments = Segments {
            size: gso_size,
            count: 0,
        };
        self.classify_segments(program, frame, segments)
    }

    pub fn classify_segments(&self, program: &str, frame: &[u8], segments: Segments) -> Run {
        self.classify_in(program, frame, &context(segments))
    }

    /// Runs a classifier on a frame that came in by a device and is on its way out of another.
    pub fn classify_forwarded(&self, program: &str, frame: &[u8]) -> Run {
        const INGRESS_IFINDEX: usize = 36;
        let mut context = context(Segments::default());
        context[INGRESS_IFINDEX..INGRESS_IFINDEX + 4].copy_from_slice(&LOOPBACK.to_ne_bytes());
        self.classify_in(program, frame, &context)
    }

    fn classify_in(&self, program: &str, frame: &[u8], context: &[u8]) -> Run {
        let program: &SchedClassifier = self.ebpf.program(program).unwrap().try_into().unwrap();
        let mut out = vec![0; frame.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(context);
        let result = program.test_run(options).expect("run the program");
        out.truncate(result.data_size_out as usize);
        Run {
            verdict: result.return_value.cast_signed(),
            frame: out,
            metadata: Vec::new(),
        }
    }

    /// Runs the XDP filter on a frame.
    pub fn filter(&self, frame: &[u8]) -> Run {
        let program: &Xdp = self
            .ebpf
            .program(maps::UNDERLAY_FILTER)
            .unwrap()
            .try_into()
            .unwrap();
        let mut out = vec![0; frame.len() + 256];
        let context = xdp_context(0, frame.len());
        let mut context_out = context;
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        options.ctx_out = Some(&mut context_out);
        let result = program.test_run(options).expect("run the program");
        out.truncate(result.data_size_out as usize);
        // `data`: where the frame begins, counted from the metadata.
        let start = u32::from_ne_bytes(context_out[..4].try_into().unwrap());
        Run {
            verdict: result.return_value.cast_signed(),
            frame: out.split_off(start as usize),
            metadata: out,
        }
    }

    /// Every counter that is not zero.
    pub fn counters(&self) -> Counters {
        let mut counters = BTreeMap::new();
        let drops: PerCpuHashMap<_, DropKey, u64> =
            PerCpuHashMap::try_from(self.ebpf.map(maps::DROPS).unwrap()).unwrap();
        for entry in &drops {
            let (key, values) = entry.unwrap();
            counters.insert(Counter::Drop(key), values.iter().sum());
        }
        let stats: PerCpuArray<&MapData, PathStats> =
            PerCpuArray::try_from(self.ebpf.map(maps::STATS).unwrap()).unwrap();
        for slot in 0..SLOTS {
            let values = stats.get(&slot, 0).unwrap();
            for (name, read) in FIELDS {
                counters.insert(Counter::Stats(slot, name), values.iter().map(read).sum());
            }
        }
        let fallbacks: PerCpuArray<&MapData, u64> =
            PerCpuArray::try_from(self.ebpf.map(maps::FALLBACKS).unwrap()).unwrap();
        for index in 0..FALLBACK_ENTRIES {
            let values = fallbacks.get(&index, 0).unwrap();
            counters.insert(Counter::Fallback(index), values.iter().sum());
        }
        counters.retain(|_, value| *value != 0);
        counters
    }
}

/// The world that the tables of frames are about.
pub(crate) fn world() -> World {
    let mut world = World {
        vtep: Vtep {
            ip4: IpKey::v4(VTEP_IP),
            ip6: IpKey::v6(v6(VTEP_IP)),
            port: u32::from(PORT),
            fallback_ifindex: LOOPBACK,
            ..Vtep::default()
        },
        ..World::default()
    };
    for (index, ip) in (1..).zip([PEER1_IP, PEER2_IP, PEER3_IP, PEER4_IP]) {
        world.peers.insert(IpKey::v4(ip), PeerValue { index });
        world.peers.insert(IpKey::v6(v6(ip)), PeerValue { index });
    }
    world.tunnels.insert(1, tunnel(PEER1_IP, NEXT_HOP));
    world
        .tunnels
        .insert(2, tunnel(PEER2_IP, MacAddr::default()));
    world.tunnels.insert(4, tunnel_v6(v6(PEER4_IP)));
    for vni in [VNI, OTHER_VNI] {
        let value = VniValue {
            mtu: 1450,
            ..VniValue::default()
        };
        world.vnis.insert(vni, value);
    }
    let network = world.vnis.get_mut(&VNI).expect("just made");
    network.gateway_mac = GATEWAY;
    let endpoint = EndpointValue {
        vni: VNI,
        mtu: 1450,
        mac: A,
        ip4: A_IP,
        gateway4: GATEWAY_IP,
        ip6: A_IP6,
        gateway6: GATEWAY_IP6,
        ..EndpointValue::default()
    };
    world.endpoints.insert(LOOPBACK, endpoint);
    for (vni, mac, ifindex) in [(VNI, A, LOOPBACK), (VNI, A2, 9), (OTHER_VNI, A2, 10)] {
        let value = FdbValue {
            ifindex,
            peer: 0,
            stats: LOCAL_SLOT,
            generation: 1,
            vni,
            flags: 0,
        };
        world.fdb.insert(FdbKey::new(vni, mac), value);
    }
    for (peer, mac) in [(1, B), (2, C), (3, D), (4, E)] {
        let value = FdbValue {
            ifindex: 0,
            peer,
            stats: PEER_SLOTS[peer as usize - 1],
            generation: 1,
            vni: VNI,
            flags: 0,
        };
        world.fdb.insert(FdbKey::new(VNI, mac), value);
    }
    for (ip, mac, flags) in [
        (IpKey::v4(A_IP), A, 0),
        (IpKey::v4(A2_IP), A2, 0),
        (IpKey::v4(A2_FAR), A2, 0),
        (IpKey::v4(B_IP), B, 0),
        (IpKey::v4(B_FAR), B, 0),
        (IpKey::v4(STALE_FAR), STALE, 0),
        (IpKey::v4(GATEWAY_IP), GATEWAY, neighbor_flags::ROUTER),
        (IpKey::v6(A_IP6), A, 0),
        (IpKey::v6(A2_IP6), A2, 0),
        (IpKey::v6(A2_FAR6), A2, 0),
        (IpKey::v6(B_IP6), B, 0),
        (IpKey::v6(B_FAR6), B, 0),
        (IpKey::v6(GATEWAY_IP6), GATEWAY, neighbor_flags::ROUTER),
    ] {
        let key = NeighborKey { vni: VNI, ip };
        world.neighbors.insert(key, NeighborValue { mac, flags });
    }
    let gateway = FdbValue {
        stats: LOCAL_SLOT,
        vni: VNI,
        flags: fdb_flags::GATEWAY,
        ..FdbValue::default()
    };
    world.fdb.insert(FdbKey::new(VNI, GATEWAY), gateway);
    add_oddities(&mut world);
    world
}

/// Entries that a frame of its own kind meets.
fn add_oddities(world: &mut World) {
    let router = FdbValue {
        ifindex: 11,
        stats: LOCAL_SLOT,
        generation: 1,
        vni: VNI,
        flags: fdb_flags::FORWARDS,
        ..FdbValue::default()
    };
    world.fdb.insert(FdbKey::new(VNI, ROUTER), router);
    let stale = FdbValue {
        ifindex: 12,
        peer: 1,
        vni: OTHER_VNI,
        flags: 0,
        ..router
    };
    world.fdb.insert(FdbKey::new(VNI, STALE), stale);
    let tagged = VniValue {
        mtu: 1450,
        flags: vni_flags::VLAN,
        ..VniValue::default()
    };
    world.vnis.insert(TAGGED_VNI, tagged);
    let local = FdbValue {
        ifindex: LOOPBACK,
        vni: TAGGED_VNI,
        flags: 0,
        ..router
    };
    world.fdb.insert(FdbKey::new(TAGGED_VNI, A), local);
    let remote = FdbValue {
        ifindex: 0,
        peer: 1,
        stats: PEER_SLOTS[0],
        ..local
    };
    world.fdb.insert(FdbKey::new(TAGGED_VNI, B), remote);
}

type Field = (&'static str, fn(&PathStats) -> u64);
const FIELDS: [Field; 4] = [
    ("tx_packets", |s| s.tx_packets),
    ("tx_bytes", |s| s.tx_bytes),
    ("rx_packets", |s| s.rx_packets),
    ("rx_bytes", |s| s.rx_bytes),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    Drop(DropKey),
    Stats(u32, &'static str),
    Fallback(u32),
}

pub type Counters = BTreeMap<Counter, u64>;

pub fn dropped(vni: u32, peer: u32, direction: Direction, reason: DropReason) -> Counters {
    [(Counter::Drop(DropKey::new(vni, peer, direction, reason)), 1)].into()
}

pub fn fell_back(direction: Direction, cause: FallbackCause) -> Counters {
    let index = overlay_common::layout::fallback_index(direction, cause);
    [(Counter::Fallback(index), 1)].into()
}

/// One frame of `bytes` sent to peer `peer`, or delivered here for peer 0.
pub fn sent(peer: usize, bytes: usize) -> Counters {
    let slot = if peer == 0 {
        LOCAL_SLOT
    } else {
        PEER_SLOTS[peer - 1]
    };
    [
        (Counter::Stats(slot, "tx_packets"), 1),
        (Counter::Stats(slot, "tx_bytes"), bytes as u64),
    ]
    .into()
}

/// One frame of `bytes` received from peer `peer`.
pub fn received(peer: usize, bytes: usize) -> Counters {
    [
        (Counter::Stats(PEER_SLOTS[peer - 1], "rx_packets"), 1),
        (
            Counter::Stats(PEER_SLOTS[peer - 1], "rx_bytes"),
            bytes as u64,
        ),
    ]
    .into()
}

/// A tunnel from this host to `destination`.
pub fn tunnel(destination: [u8; 4], next_hop: MacAddr) -> TunnelValue {
    tunnel_of(Template {
        source_mac: SOURCE_MAC,
        next_hop,
        source: VTEP_IP.into(),
        destination: destination.into(),
        port: PORT,
        ttl: 64,
        tos: 0,
    })
}

/// The same over IPv6, next hop known.
pub fn tunnel_v6(destination: [u8; 16]) -> TunnelValue {
    tunnel_of(Template {
        source_mac: SOURCE_MAC,
        next_hop: NEXT_HOP,
        source: v6(VTEP_IP).into(),
        destination: destination.into(),
        port: PORT,
        ttl: 64,
        tos: 0,
    })
}

fn tunnel_of(template: Template) -> TunnelValue {
    TunnelValue {
        header: template.to_bytes(),
        header_len: template.header_len(),
        ifindex: LOOPBACK,
        flags: template.flags(),
        mtu: MTU,
    }
}

/// A `struct __sk_buff` (linux/bpf.h) that is zero but for `gso_segs` and `gso_size`.
fn context(segments: Segments) -> [u8; 192] {
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut context = [0; 192];
    context[GSO_SEGS..GSO_SEGS + 4].copy_from_slice(&segments.count.to_ne_bytes());
    context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&segments.size.to_ne_bytes());
    context
}

/// A `struct xdp_md` (linux/bpf.h) of input that is `metadata` bytes and then a frame, up to `end`.
pub fn xdp_context(metadata: usize, end: usize) -> [u8; 24] {
    let mut context = [0; 24];
    context[..4].copy_from_slice(&(metadata as u32).to_ne_bytes());
    context[4..8].copy_from_slice(&(end as u32).to_ne_bytes());
    context
}

/// A bpffs of one's own: its pins cannot meet those of another run.
struct Bpffs {
    path: PathBuf,
}

impl Bpffs {
    fn mount() -> Self {
        let path = tempfile::Builder::new()
            .prefix("overlay-test-bpffs-")
            .tempdir()
            .unwrap()
            .keep();
        nix::mount::mount(
            Some("bpf"),
            &path,
            Some("bpf"),
            nix::mount::MsFlags::empty(),
            None::<&Path>,
        )
        .expect("mount a bpffs: the tests need root");
        Self { path }
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = nix::mount::umount(&self.path);
        let _ = std::fs::remove_dir(&self.path);
    }
}
