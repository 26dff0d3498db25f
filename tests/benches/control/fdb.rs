//! A host's forwarding table, read as the kernel has it.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, Map, MapData, MapError};
use overlay_agent::datapath::Paths;
use overlay_common::layout::{FdbKey, FdbValue};
use overlay_common::maps::FDB;
use overlay_common::net::{MacAddr, Vni};
use tests::interrupt;

use crate::population::Population;

/// Between two looks at a table.
pub const TICK: Duration = Duration::from_micros(100);
/// Longest for anything to get there.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Fdb {
    map: HashMap<MapData, FdbKey, FdbValue>,
    net: Vni,
}

impl Fdb {
    pub fn open(paths: &Paths, net: Vni) -> Result<Self> {
        let path = paths.map(FDB);
        let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
        let map = HashMap::try_from(Map::from_map_data(data)?).context("the table is no hash")?;
        Ok(Self { map, net })
    }

    pub fn has(&self, mac: MacAddr) -> Result<bool> {
        match self.map.get(&FdbKey::new(self.net.get(), mac), 0) {
            Ok(_) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error).context("read the forwarding table"),
        }
    }

    /// Waits until an endpoint is, or is not, there; the moment.
    pub fn await_one(&self, mac: MacAddr, there: bool) -> Result<Instant> {
        let deadline = Instant::now() + TIMEOUT;
        while self.has(mac)? != there {
            interrupt::check()?;
            if Instant::now() > deadline {
                bail!("the forwarding table has not changed for {mac} within {TIMEOUT:?}");
            }
            thread::sleep(TICK);
        }
        Ok(Instant::now())
    }

    /// Waits until the whole population is there.
    pub fn wait_for(&self, population: &Population) -> Result<Option<Instant>> {
        self.await_all(population.macs(), [])
    }

    /// Waits until all of the first are there and none of the second; the moment, if it was not so at once.
    pub fn await_all(
        &self,
        there: impl IntoIterator<Item = MacAddr>,
        gone: impl IntoIterator<Item = MacAddr>,
    ) -> Result<Option<Instant>> {
        let mut done = None;
        for mac in there {
            if !self.has(mac)? {
                done = Some(self.await_one(mac, true)?);
            }
        }
        for mac in gone {
            if self.has(mac)? {
                done = Some(self.await_one(mac, false)?);
            }
        }
        Ok(done)
    }

    /// How many entries the network has.
    pub fn len(&self) -> Result<usize> {
        let mut count = 0;
        for key in self.map.keys() {
            count += usize::from(key?.vni == self.net.get());
        }
        Ok(count)
    }
}

/// Bytes of kernel memory of a pinned map.
pub fn memory(paths: &Paths, name: &str) -> Result<u64> {
    let path = paths.map(name);
    let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
    // The same for every process that has it open.
    let info = format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(&info).with_context(|| format!("read {info}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    let bytes = line.context("the kernel does not say how large a map is")?;
    bytes.trim().parse().context("size of a map")
}
