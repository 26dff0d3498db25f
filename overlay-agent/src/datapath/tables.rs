//! The pinned maps as [`Rows`]: reading them back and changing them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{
    Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues,
};
use aya::sys::SyscallError;
use aya::util::nr_cpus;
use overlay_common::layout::{
    AllowedKey, DropKey, EndpointValue, FLOOD_MAX, FdbKey, FdbValue, FloodPeer, FloodValue,
    NeighborKey, NeighborValue, PathStats, PeerValue, StatsKey, TunnelValue, VniValue, Vtep,
};
use overlay_common::maps;
use overlay_common::net::IpKey;
use thiserror::Error;

use super::paths::Paths;
use super::rows::{Allowed, Change, Flood, Rows};

#[derive(Debug, Error)]
pub enum TablesError {
    #[error(
        "no data path is loaded ({} is not there): `overlay-agent run` or `attach` loads it",
        .0.display()
    )]
    NotLoaded(PathBuf),
    #[error("open pinned map {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Box<MapError>,
    },
    #[error("read map {map}")]
    Read {
        map: &'static str,
        #[source]
        source: Box<MapError>,
    },
    #[error("map {map} is full: {change}")]
    Full {
        map: &'static str,
        /// What did not fit.
        change: String,
    },
    #[error("change map {map}: {change}")]
    Write {
        map: &'static str,
        change: String,
        #[source]
        source: Box<MapError>,
    },
}

type Hash<K, V> = HashMap<MapData, K, V>;

/// The pinned maps, opened. Independent of whoever loaded them: a reader opens its own.
pub struct Tables {
    pub(super) endpoints: Hash<u32, EndpointValue>,
    pub(super) fdb: Hash<FdbKey, FdbValue>,
    pub(super) neighbors: Hash<NeighborKey, NeighborValue>,
    pub(super) peers: Hash<IpKey, PeerValue>,
    pub(super) tunnels: Array<MapData, TunnelValue>,
    pub(super) vnis: Hash<u32, VniValue>,
    pub(super) stats_index: Hash<StatsKey, u32>,
    pub(super) stats: PerCpuArray<MapData, PathStats>,
    pub(super) drops: PerCpuHashMap<MapData, DropKey, u64>,
    pub(super) fallbacks: PerCpuArray<MapData, u64>,
    vtep: Array<MapData, Vtep>,
    pub(super) floods: Hash<u32, FloodValue>,
    flood_clocks: Hash<u32, u64>,
    pub(super) allowed: LpmTrie<MapData, AllowedKey, u32>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    /// Opens the pinned maps.
    pub fn open(paths: &Paths) -> Result<Self, TablesError> {
        Ok(Self {
            endpoints: open(paths, maps::ENDPOINTS)?,
            fdb: open(paths, maps::FDB)?,
            neighbors: open(paths, maps::NEIGHBORS)?,
            peers: open(paths, maps::PEERS)?,
            tunnels: open(paths, maps::TUNNELS)?,
            vnis: open(paths, maps::VNIS)?,
            stats_index: open(paths, maps::STATS_INDEX)?,
            stats: open(paths, maps::STATS)?,
            drops: open(paths, maps::DROPS)?,
            fallbacks: open(paths, maps::FALLBACKS)?,
            vtep: open(paths, maps::VTEP)?,
            floods: open(paths, maps::FLOODS)?,
            flood_clocks: open(paths, maps::FLOOD_CLOCKS)?,
            allowed: open(paths, maps::ALLOWED)?,
        })
    }

    /// Everything the maps hold.
    pub fn read_rows(&self) -> Result<Rows, TablesError> {
        let mut tunnels = BTreeMap::new();
        for (index, value) in (0..).zip(self.tunnels.iter()) {
            let value = value.map_err(|source| read_failed(maps::TUNNELS, source))?;
            if value != TunnelValue::NONE {
                tunnels.insert(index, value);
            }
        }
        Ok(Rows {
            endpoints: read(maps::ENDPOINTS, &self.endpoints)?,
            fdb: read(maps::FDB, &self.fdb)?,
            neighbors: read(maps::NEIGHBORS, &self.neighbors)?,
            peers: read(maps::PEERS, &self.peers)?,
            tunnels,
            vnis: read(maps::VNIS, &self.vnis)?,
            stats_index: read(maps::STATS_INDEX, &self.stats_index)?,
            floods: read(maps::FLOODS, &self.floods)?
                .into_iter()
                .map(|(vni, value)| (vni, Flood::from(&value)))
                .collect(),
            allowed: self.read_allowed()?,
        })
    }

    fn read_allowed(&self) -> Result<BTreeMap<Allowed, u32>, TablesError> {
        self.allowed
            .iter()
            .map(|entry| {
                let (key, value) = entry?;
                let allowed = Allowed {
                    key: key.data(),
                    prefix_len: key.prefix_len(),
                };
                Ok((allowed, value))
            })
            .collect::<Result<_, _>>()
            .map_err(|source| read_failed(maps::ALLOWED, source))
    }

    /// Whether there is a record of the endpoint behind an interface.
    pub fn has_endpoint(&self, ifindex: u32) -> Result<bool, TablesError> {
        match self.endpoints.get(&ifindex, 0) {
            Ok(_) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(source) => Err(read_failed(maps::ENDPOINTS, source)),
        }
    }

    /// This host's tunnel ends, as the programs know them.
    pub fn vtep(&self) -> Result<Vtep, TablesError> {
        self.vtep
            .get(&0, 0)
            .map_err(|source| read_failed(maps::VTEP, source))
    }

    /// Tells the programs which tunnel ends are this host's.
    pub fn set_vtep(&mut self, vtep: &Vtep) -> Result<(), TablesError> {
        self.vtep
            .set(0, vtep, 0)
            .map_err(|source| TablesError::Write {
                map: maps::VTEP,
                change: format!("{vtep:?}"),
                source: Box::new(source),
            })
    }

    /// Makes one change. Removing what is not there is no error.
    pub fn apply(&mut self, change: &Change) -> Result<(), TablesError> {
        let (map, result) = match change {
            Change::Endpoint(key, value) => {
                let value = value.as_deref().copied();
                (maps::ENDPOINTS, write(&mut self.endpoints, key, &value))
            }
            Change::Fdb(key, value) => (maps::FDB, write(&mut self.fdb, key, value)),
            Change::Neighbor(key, value) => {
                (maps::NEIGHBORS, write(&mut self.neighbors, key, value))
            }
            Change::Peer(key, value) => (maps::PEERS, write(&mut self.peers, key, value)),
            Change::Tunnel(index, value) => (
                maps::TUNNELS,
                self.tunnels
                    .set(*index, value.as_deref().unwrap_or(&TunnelValue::NONE), 0),
            ),
            Change::Vni(key, value) => (maps::VNIS, self.set_vni(*key, value)),
            Change::StatsIndex(key, value) => {
                (maps::STATS_INDEX, self.set_stats_index(key, *value))
            }
            Change::Flood(vni, value) => (maps::FLOODS, self.set_flood(*vni, value.as_ref())),
            Change::Allowed(prefix, value) => (maps::ALLOWED, self.set_allowed(prefix, *value)),
        };
        result.map_err(|source| write_failed(map, change, source))
    }

    /// A network takes the counts of its drops with it: the next one with its number is another,
    /// and the map is not to fill with the dead.
    fn set_vni(&mut self, vni: u32, value: &Option<VniValue>) -> Result<(), MapError> {
        write(&mut self.vnis, &vni, value)?;
        if value.is_some() {
            return Ok(());
        }
        let keys: Vec<_> = self.drops.keys().collect::<Result<_, _>>()?;
        for key in keys.iter().filter(|key: &&DropKey| key.vni == vni) {
            absent(self.drops.remove(key))?;
        }
        Ok(())
    }

    /// A network that floods no more takes its clock with it, which the programs have made.
    fn set_flood(&mut self, vni: u32, flood: Option<&Flood>) -> Result<(), MapError> {
        write(&mut self.floods, &vni, &flood.map(FloodValue::from))?;
        if flood.is_some() {
            return Ok(());
        }
        absent(self.flood_clocks.remove(&vni))
    }

    fn set_allowed(&mut self, prefix: &Allowed, value: Option<u32>) -> Result<(), MapError> {
        let key = Key::new(prefix.prefix_len, prefix.key);
        match value {
            Some(value) => self.allowed.insert(&key, value, 0),
            None => absent(self.allowed.remove(&key)),
        }
    }

    /// A slot may have been another pair's: it starts from zero before anything counts there.
    fn set_stats_index(&mut self, key: &StatsKey, slot: Option<u32>) -> Result<(), MapError> {
        if let Some(slot) = slot {
            let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
            let zeros = PerCpuValues::try_from(vec![PathStats::default(); cpus])?;
            self.stats.set(slot, zeros, 0)?;
        }
        write(&mut self.stats_index, key, &slot)
    }
}

impl From<&FloodValue> for Flood {
    fn from(value: &FloodValue) -> Self {
        let used = |count: u32| FLOOD_MAX.min(count as usize);
        Self {
            peers: value.peers[..used(value.peer_count)].to_vec(),
            locals: value.locals[..used(value.local_count)].to_vec(),
            local_stats: value.local_stats,
        }
    }
}

impl From<&Flood> for FloodValue {
    /// What is beyond the room of a row is left out.
    fn from(flood: &Flood) -> Self {
        let mut value = Self {
            peer_count: 0,
            local_count: 0,
            local_stats: flood.local_stats,
            pad: 0,
            peers: [FloodPeer::default(); FLOOD_MAX],
            locals: [0; FLOOD_MAX],
        };
        for (place, peer) in value.peers.iter_mut().zip(&flood.peers) {
            *place = *peer;
            value.peer_count += 1;
        }
        for (place, local) in value.locals.iter_mut().zip(&flood.locals) {
            *place = *local;
            value.local_count += 1;
        }
        value
    }
}

fn open<T: TryFrom<Map, Error = MapError>>(
    paths: &Paths,
    name: &'static str,
) -> Result<T, TablesError> {
    let path = paths.map(name);
    let opened = MapData::from_pin(&path)
        .and_then(Map::from_map_data)
        .and_then(T::try_from);
    opened.map_err(|error| match error {
        MapError::PinError { .. } | MapError::SyscallError(_) if !path.exists() => {
            TablesError::NotLoaded(path)
        }
        source => TablesError::Open {
            path,
            source: Box::new(source),
        },
    })
}

fn read<K: Pod + Ord, V: Pod>(
    map: &'static str,
    table: &Hash<K, V>,
) -> Result<BTreeMap<K, V>, TablesError> {
    table
        .iter()
        .collect::<Result<_, _>>()
        .map_err(|source| read_failed(map, source))
}

fn write<K: Pod, V: Pod>(
    table: &mut Hash<K, V>,
    key: &K,
    value: &Option<V>,
) -> Result<(), MapError> {
    let Some(value) = value else {
        return absent(table.remove(key));
    };
    table.insert(key, value, 0)
}

/// What is not there need not be removed.
fn absent(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

pub(super) fn read_failed(map: &'static str, source: MapError) -> TablesError {
    TablesError::Read {
        map,
        source: Box::new(source),
    }
}

fn write_failed(map: &'static str, change: &Change, source: MapError) -> TablesError {
    let change = format!("{change:?}");
    // E2BIG; out of memory is not that.
    if errno(&source) == Some(libc::E2BIG) {
        return TablesError::Full { map, change };
    }
    TablesError::Write {
        map,
        change,
        source: Box::new(source),
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(SyscallError { io_error, .. }) => io_error.raw_os_error(),
        MapError::IoError(error) => io::Error::raw_os_error(error),
        _ => None,
    }
}
