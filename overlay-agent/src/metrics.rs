//! What the agent tells Prometheus. Names and labels are a contract with dashboards.

mod families;
pub mod http;
mod reading;

use std::fmt;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::datapath::rows::Change;
use families::Families;
pub use reading::{Left, Reading, StoreReading};

/// Seconds; a sync is between a few map writes and some ten thousand.
const SYNC_BUCKETS: [f64; 10] = [
    0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// The metrics of one agent: a few that it counts itself, and those read from maps and state
/// when somebody asks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

/// What the agent counts while it works.
#[derive(Clone, Debug)]
pub struct SyncMetrics {
    /// Time to bring the data path in line with the store.
    pub duration: Histogram,
    /// Entries that an audit found wrong, by map.
    pub repairs: IntCounterVec,
}

impl SyncMetrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "overlay_sync_duration_seconds",
                "Time to bring the data path in line with the store.",
            )
            .buckets(SYNC_BUCKETS.to_vec()),
        )?;
        let repairs = IntCounterVec::new(
            Opts::new(
                "overlay_reconcile_repairs_total",
                "Map entries that an audit found different from what they should be.",
            ),
            &["map"],
        )?;
        for map in Change::MAPS {
            repairs.with_label_values(&[map]);
        }
        Ok(Self { duration, repairs })
    }
}

impl Metrics {
    /// `datapath` says which programs run; `read` is called for each scrape.
    pub fn new(
        kernel: &str,
        datapath: &str,
        sync: &SyncMetrics,
        read: impl Fn() -> Reading + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = IntGaugeVec::new(
            Opts::new(
                "overlay_build_info",
                "Always 1; the labels say what is running.",
            ),
            &["version", "kernel", "datapath"],
        )?;
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION"), kernel, datapath])
            .set(1);
        registry.register(Box::new(sync.duration.clone()))?;
        registry.register(Box::new(sync.repairs.clone()))?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(AtScrape {
            read,
            descriptions: Families::new()?.descriptions(),
        }))?;
        Ok(Self { registry })
    }

    /// The exposition in Prometheus' text format.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

struct AtScrape<F> {
    read: F,
    descriptions: Vec<Desc>,
}

impl<F> fmt::Debug for AtScrape<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtScrape").finish_non_exhaustive()
    }
}

impl<F: Fn() -> Reading + Send + Sync> Collector for AtScrape<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match Families::new() {
            Ok(families) => families.filled(&(self.read)()),
            Err(error) => {
                tracing::error!("metrics are missing: {error}");
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests;
