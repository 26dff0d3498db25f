//! What the programs counted, summed over the CPUs.

use std::collections::BTreeMap;

use aya::maps::MapError;
use overlay_common::layout::{DropKey, PathStats, StatsKey, TunnelValue, fallback_index};
use overlay_common::{Direction, FallbackCause, maps};

use super::tables::{Tables, TablesError, read_failed};

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapUse {
    pub map: &'static str,
    pub entries: u32,
    pub max: u32,
}

impl Tables {
    /// How full each map is that can fill up. Walks every map: at most a few hundred thousand
    /// system calls, a tenth of a second.
    pub fn sizes(&self) -> Result<Vec<MapUse>, TablesError> {
        let tunnels = self.tunnels.iter().filter(|value| {
            value
                .as_ref()
                .map_or(true, |value| *value != TunnelValue::NONE)
        });
        Ok(vec![
            used(maps::ENDPOINTS, maps::MAX_ENDPOINTS, self.endpoints.keys())?,
            used(maps::FDB, maps::MAX_FDB, self.fdb.keys())?,
            used(maps::NEIGHBORS, maps::MAX_NEIGHBORS, self.neighbors.keys())?,
            used(maps::PEERS, maps::MAX_PEERS, self.peers.keys())?,
            used(maps::TUNNELS, maps::MAX_TUNNELS, tunnels)?,
            used(maps::VNIS, maps::MAX_VNIS, self.vnis.keys())?,
            used(maps::STATS, maps::MAX_STATS, self.stats_index.keys())?,
            used(maps::DROPS, maps::MAX_DROPS, self.drops.keys())?,
            used(maps::FLOODS, maps::MAX_FLOODS, self.floods.keys())?,
            used(maps::ALLOWED, maps::MAX_ALLOWED, self.allowed.keys())?,
        ])
    }

    /// Traffic of each pair (VNI, peer) that has a slot.
    pub fn stats(&self) -> Result<BTreeMap<StatsKey, PathStats>, TablesError> {
        let mut all = BTreeMap::new();
        for entry in &self.stats_index {
            let (key, slot) = entry.map_err(|source| read_failed(maps::STATS_INDEX, source))?;
            let values = self
                .stats
                .get(&slot, 0)
                .map_err(|source| read_failed(maps::STATS, source))?;
            all.insert(key, sum(&values));
        }
        Ok(all)
    }

    /// Dropped packets, in the order of their keys.
    pub fn drops(&self) -> Result<Vec<(DropKey, u64)>, TablesError> {
        let mut all = Vec::new();
        for entry in &self.drops {
            let (key, values) = entry.map_err(|source| read_failed(maps::DROPS, source))?;
            all.push((key, values.iter().sum()));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Packets that took the fallback path, for each direction and cause, zeros included.
    pub fn fallbacks(&self) -> Result<Vec<(Direction, FallbackCause, u64)>, TablesError> {
        let mut all = Vec::new();
        for &direction in Direction::ALL {
            for &cause in FallbackCause::ALL {
                let values = self
                    .fallbacks
                    .get(&fallback_index(direction, cause), 0)
                    .map_err(|source| read_failed(maps::FALLBACKS, source))?;
                all.push((direction, cause, values.iter().sum()));
            }
        }
        Ok(all)
    }
}

/// Counts by walking the keys: a system call per entry.
fn used<K>(
    map: &'static str,
    max: u32,
    keys: impl Iterator<Item = Result<K, MapError>>,
) -> Result<MapUse, TablesError> {
    let mut entries = 0;
    for key in keys {
        key.map_err(|source| read_failed(map, source))?;
        entries += 1;
    }
    Ok(MapUse { map, entries, max })
}

fn sum(values: &[PathStats]) -> PathStats {
    values
        .iter()
        .fold(PathStats::default(), |sum, value| PathStats {
            tx_packets: sum.tx_packets + value.tx_packets,
            tx_bytes: sum.tx_bytes + value.tx_bytes,
            rx_packets: sum.rx_packets + value.rx_packets,
            rx_bytes: sum.rx_bytes + value.rx_bytes,
        })
}
