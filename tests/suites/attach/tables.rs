//! Rows and counters, in the kernel and back.

use aya::maps::{Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::util::nr_cpus;
use overlay_agent::datapath::rows::{Allowed, Change, Flood, Rows};
use overlay_agent::datapath::{Datapath, MapUse, TablesError, XdpMode};
use overlay_common::layout::{
    AllowedKey, DropKey, EndpointValue, FLOOD_MAX, FdbKey, FdbValue, FloodPeer, NeighborKey,
    NeighborValue, PathStats, PeerValue, StatsKey, TunnelValue, VniValue, fallback_index,
};
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::{Direction, DropReason, FallbackCause, maps};

use super::world::World;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const STATS: StatsKey = StatsKey { vni: 42, peer: 1 };

const ALLOWED: Allowed = Allowed {
    key: AllowedKey {
        ifindex: 7,
        ip: IpKey::v4([10, 1, 0, 0]),
    },
    prefix_len: 32 + 96 + 16,
};

fn flood() -> Flood {
    Flood {
        peers: vec![FloodPeer { peer: 1, stats: 3 }; FLOOD_MAX],
        locals: vec![7, 8],
        local_stats: 4,
    }
}

fn changes() -> Vec<Change> {
    let neighbor = NeighborKey {
        vni: 42,
        ip: IpKey::v4([10, 0, 0, 1]),
    };
    vec![
        Change::Endpoint(
            7,
            Some(Box::new(EndpointValue {
                vni: 42,
                ..EndpointValue::default()
            })),
        ),
        Change::Fdb(
            FdbKey::new(42, MAC),
            Some(FdbValue {
                peer: 1,
                ..FdbValue::default()
            }),
        ),
        Change::Neighbor(neighbor, Some(NeighborValue { mac: MAC, flags: 0 })),
        Change::Peer(IpKey::v4([192, 0, 2, 2]), Some(PeerValue { index: 1 })),
        Change::Tunnel(
            1,
            Some(Box::new(TunnelValue {
                header_len: 50,
                ..TunnelValue::NONE
            })),
        ),
        Change::Vni(
            42,
            Some(VniValue {
                mtu: 1450,
                ..VniValue::default()
            }),
        ),
        Change::StatsIndex(STATS, Some(3)),
        Change::Flood(42, Some(flood())),
        Change::Allowed(ALLOWED, Some(1)),
    ]
}

fn removal(change: &Change) -> Change {
    match change.clone() {
        Change::Endpoint(key, _) => Change::Endpoint(key, None),
        Change::Fdb(key, _) => Change::Fdb(key, None),
        Change::Neighbor(key, _) => Change::Neighbor(key, None),
        Change::Peer(key, _) => Change::Peer(key, None),
        Change::Tunnel(key, _) => Change::Tunnel(key, None),
        Change::Vni(key, _) => Change::Vni(key, None),
        Change::StatsIndex(key, _) => Change::StatsIndex(key, None),
        Change::Flood(key, _) => Change::Flood(key, None),
        Change::Allowed(key, _) => Change::Allowed(key, None),
    }
}

fn entries(rows: &Rows) -> [usize; 9] {
    [
        rows.endpoints.len(),
        rows.fdb.len(),
        rows.neighbors.len(),
        rows.peers.len(),
        rows.tunnels.len(),
        rows.vnis.len(),
        rows.stats_index.len(),
        rows.floods.len(),
        rows.allowed.len(),
    ]
}

#[test]
fn rows_come_back_as_written() {
    let world = World::new();
    world.open(XdpMode::Off).unwrap();
    let mut tables = Datapath::maps_only(&world.paths()).unwrap();
    assert_eq!(tables.read_rows().unwrap(), Rows::default());
    for change in changes() {
        tables.apply(&change).unwrap();
    }
    let rows = tables.read_rows().unwrap();
    assert_eq!(entries(&rows), [1; 9]);
    assert_eq!(rows.endpoints[&7].vni, 42);
    assert_eq!(rows.fdb[&FdbKey::new(42, MAC)].peer, 1);
    assert_eq!(rows.tunnels[&1].header_len, 50);
    assert_eq!(rows.stats_index[&STATS], 3);
    assert_eq!(rows.floods[&42], flood());
    assert_eq!(rows.allowed[&ALLOWED], 1);
    for MapUse { map, entries, max } in tables.sizes().unwrap() {
        assert_eq!(entries, u32::from(map != maps::DROPS), "{map}");
        assert!(max > 0, "{map}");
    }
    for change in changes() {
        tables.apply(&removal(&change)).unwrap();
        // What is not there is removed without complaint.
        tables.apply(&removal(&change)).unwrap();
    }
    assert_eq!(tables.read_rows().unwrap(), Rows::default());
}

#[test]
fn a_full_map_says_so() {
    let world = World::new();
    world.open(XdpMode::Off).unwrap();
    let mut tables = Datapath::maps_only(&world.paths()).unwrap();
    for vni in 1..=maps::MAX_VNIS {
        tables
            .apply(&Change::Vni(vni, Some(VniValue::default())))
            .unwrap();
    }
    let error = tables
        .apply(&Change::Vni(maps::MAX_VNIS + 1, Some(VniValue::default())))
        .unwrap_err();
    assert!(
        matches!(
            error,
            TablesError::Full {
                map: maps::VNIS,
                ..
            }
        ),
        "{error:?}"
    );
}

/// As the programs on several CPUs leave them: the n-th has counted n.
fn per_cpu<T: aya::Pod>(value: impl Fn(u64) -> T) -> (PerCpuValues<T>, u64) {
    let cpus = nr_cpus().unwrap() as u64;
    let values: Vec<_> = (1..=cpus).map(value).collect();
    (values.try_into().unwrap(), cpus * (cpus + 1) / 2)
}

#[test]
fn counters_are_summed_over_cpus() {
    let world = World::new();
    world.open(XdpMode::Off).unwrap();
    let map = |name| Map::from_map_data(MapData::from_pin(world.paths().map(name)).unwrap());
    let mut tables = Datapath::maps_only(&world.paths()).unwrap();
    tables.apply(&Change::StatsIndex(STATS, Some(3))).unwrap();

    let mut stats: PerCpuArray<_, PathStats> = map(maps::STATS).unwrap().try_into().unwrap();
    let (values, sum) = per_cpu(|n| PathStats {
        tx_packets: n,
        tx_bytes: 10 * n,
        rx_packets: 100 * n,
        rx_bytes: 1000 * n,
    });
    stats.set(3, values, 0).unwrap();
    let wanted = PathStats {
        tx_packets: sum,
        tx_bytes: 10 * sum,
        rx_packets: 100 * sum,
        rx_bytes: 1000 * sum,
    };
    assert_eq!(tables.stats().unwrap(), [(STATS, wanted)].into());

    let key = DropKey::new(42, 1, Direction::Rx, DropReason::InnerSource);
    let mut drops: PerCpuHashMap<_, DropKey, u64> = map(maps::DROPS).unwrap().try_into().unwrap();
    let (values, sum) = per_cpu(|n| n);
    drops.insert(key, values, 0).unwrap();
    let other = DropKey::new(43, 1, Direction::Rx, DropReason::InnerSource);
    drops.insert(other, per_cpu(|n| n).0, 0).unwrap();
    assert_eq!(tables.drops().unwrap(), [(key, sum), (other, sum)]);
    // Another network may get the number.
    let network = |value| Change::Vni(42, value);
    tables.apply(&network(Some(VniValue::default()))).unwrap();
    assert_eq!(tables.drops().unwrap(), [(key, sum), (other, sum)]);
    tables.apply(&network(None)).unwrap();
    assert_eq!(tables.drops().unwrap(), [(other, sum)]);

    let mut fallbacks: PerCpuArray<_, u64> = map(maps::FALLBACKS).unwrap().try_into().unwrap();
    let index = fallback_index(Direction::Tx, FallbackCause::InnerNotIp);
    fallbacks.set(index, per_cpu(|n| n).0, 0).unwrap();
    let counted: Vec<_> = tables
        .fallbacks()
        .unwrap()
        .into_iter()
        .filter(|&(_, _, count)| count > 0)
        .collect();
    assert_eq!(counted, [(Direction::Tx, FallbackCause::InnerNotIp, sum)]);

    // A slot that is given to another pair starts from zero.
    let other = StatsKey { vni: 43, peer: 1 };
    tables.apply(&Change::StatsIndex(STATS, None)).unwrap();
    tables.apply(&Change::StatsIndex(other, Some(3))).unwrap();
    assert_eq!(
        tables.stats().unwrap(),
        [(other, PathStats::default())].into()
    );
}
