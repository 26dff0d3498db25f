//! The metric families that are made anew for each scrape.

use std::collections::BTreeMap;

use overlay_common::layout::PathStats;
use overlay_common::{Direction, DropReason};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::Reading;

/// Frames between two endpoints of this host.
const LOCAL: &str = "local";

/// A drop whose number this version does not know.
const UNKNOWN: &str = "unknown";

pub(super) struct Families {
    vni_packets: IntCounterVec,
    vni_bytes: IntCounterVec,
    vni_drops: IntCounterVec,
    peer_packets: IntCounterVec,
    peer_bytes: IntCounterVec,
    fallbacks: IntCounterVec,
    map_entries: IntGaugeVec,
    map_max: IntGaugeVec,
    store_up: IntGauge,
    store_last_contact: GaugeVec,
    store_errors: IntCounterVec,
    endpoints: IntGaugeVec,
    peers: IntGauge,
    addresses_free: GaugeVec,
    addresses_last: GaugeVec,
}

impl Families {
    #[rustfmt::skip]
    pub(super) fn new() -> Result<Self, Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauge = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let of_network = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["network", "family"]);
        Ok(Self {
            vni_packets: counter("overlay_vni_packets_total", "Frames delivered or sent on a network, as they are on the wire.", &["vni", "network", "direction"])?,
            vni_bytes: counter("overlay_vni_bytes_total", "Bytes of those frames, inner Ethernet headers included.", &["vni", "network", "direction"])?,
            vni_drops: counter("overlay_vni_drops_total", "Frames dropped; VNI 0 stands for those of no network of this host.", &["vni", "network", "direction", "reason"])?,
            peer_packets: counter("overlay_peer_packets_total", "Frames exchanged with a host.", &["peer", "direction"])?,
            peer_bytes: counter("overlay_peer_bytes_total", "Bytes of those frames, inner Ethernet headers included.", &["peer", "direction"])?,
            fallbacks: counter("overlay_fallback_packets_total", "Frames that took the kernel's vxlan device.", &["direction", "cause"])?,
            map_entries: gauge("overlay_map_entries", "Entries in a map of the data path.", &["map"])?,
            map_max: gauge("overlay_map_max_entries", "Room in a map of the data path.", &["map"])?,
            store_up: IntGauge::new("overlay_store_up", "Whether the store answers.")?,
            store_last_contact: GaugeVec::new(Opts::new("overlay_store_last_contact_seconds", "Age of the store's last answer; absent before the first."), &[])?,
            store_errors: counter("overlay_store_errors_total", "Requests to the store that failed.", &["kind"])?,
            endpoints: gauge("overlay_endpoints", "Endpoints of this host.", &["network"])?,
            addresses_free: of_network("overlay_addresses_free", "Addresses of a network that no endpoint has.")?,
            addresses_last: of_network("overlay_addresses_exhaustion_seconds", "Time until no address is free at the rate of the last 15 minutes.")?,
            peers: IntGauge::new("overlay_peers", "Other hosts that this one exchanges frames with.")?,
        })
    }

    fn all(&self) -> [&dyn Collector; 15] {
        [
            &self.vni_packets,
            &self.vni_bytes,
            &self.vni_drops,
            &self.peer_packets,
            &self.peer_bytes,
            &self.fallbacks,
            &self.map_entries,
            &self.map_max,
            &self.store_up,
            &self.store_last_contact,
            &self.store_errors,
            &self.endpoints,
            &self.peers,
            &self.addresses_free,
            &self.addresses_last,
        ]
    }

    pub(super) fn descriptions(&self) -> Vec<Desc> {
        let all = self.all();
        all.iter()
            .flat_map(|family| family.desc())
            .cloned()
            .collect()
    }

    pub(super) fn filled(self, reading: &Reading) -> Vec<MetricFamily> {
        self.paths(reading);
        self.drops(reading);
        self.state(reading);
        // The encoder refuses a family without a metric.
        let families = self.all().into_iter().flat_map(Collector::collect);
        families
            .filter(|family| !family.get_metric().is_empty())
            .collect()
    }

    fn paths(&self, reading: &Reading) {
        let mut vnis: BTreeMap<u32, (PathStats, PathStats)> = BTreeMap::new();
        for (key, stats) in &reading.stats {
            let (local, remote) = vnis.entry(key.vni).or_default();
            add(if key.peer == 0 { local } else { remote }, stats);
            if let Some(peer) = reading.peers.get(&key.peer).filter(|_| key.peer != 0) {
                for (direction, packets, bytes) in both(stats) {
                    let labels = [peer.as_str(), direction];
                    self.peer_packets.with_label_values(&labels).inc_by(packets);
                    self.peer_bytes.with_label_values(&labels).inc_by(bytes);
                }
            }
        }
        for (vni, stats) in &reading.retired {
            if let Some((_, remote)) = vnis.get_mut(vni) {
                add(remote, stats);
            }
        }
        for (vni, (local, remote)) in &vnis {
            let (number, network) = (vni.to_string(), name(reading, *vni));
            let local = (LOCAL, local.tx_packets, local.tx_bytes);
            for (direction, packets, bytes) in both(remote).into_iter().chain([local]) {
                let labels = [number.as_str(), network, direction];
                self.vni_packets.with_label_values(&labels).inc_by(packets);
                self.vni_bytes.with_label_values(&labels).inc_by(bytes);
            }
        }
    }

    fn drops(&self, reading: &Reading) {
        for (key, packets) in &reading.drops {
            let direction = Direction::from_number(key.direction).map_or(UNKNOWN, Direction::label);
            let reason = DropReason::from_number(key.reason).map_or(UNKNOWN, DropReason::label);
            let (vni, network) = (key.vni.to_string(), name(reading, key.vni));
            self.vni_drops
                .with_label_values(&[vni.as_str(), network, direction, reason])
                .inc_by(*packets);
        }
        for (direction, cause, packets) in &reading.fallbacks {
            self.fallbacks
                .with_label_values(&[direction.label(), cause.label()])
                .inc_by(*packets);
        }
    }

    fn state(&self, reading: &Reading) {
        for map in &reading.maps {
            let set = |gauge: &IntGaugeVec, value: u32| {
                gauge.with_label_values(&[map.map]).set(value.into());
            };
            set(&self.map_entries, map.entries);
            set(&self.map_max, map.max);
        }
        self.store_up.set(i64::from(reading.store.up));
        if let Some(age) = reading.store.last_contact {
            self.store_last_contact
                .with_label_values::<&str>(&[])
                .set(age);
        }
        for (kind, count) in &reading.store.errors {
            self.store_errors.with_label_values(&[kind]).inc_by(*count);
        }
        for (network, count) in &reading.endpoints {
            self.endpoints
                .with_label_values(&[network.as_str()])
                .set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        for ((network, family), left) in &reading.addresses {
            let labels = [network.as_str(), family.label()];
            #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
            let free = left.free as f64;
            self.addresses_free.with_label_values(&labels).set(free);
            let last = self.addresses_last.with_label_values(&labels);
            last.set(left.seconds);
        }
        self.peers
            .set(i64::try_from(reading.peers.len()).unwrap_or(i64::MAX));
    }
}

fn name(reading: &Reading, vni: u32) -> &str {
    reading.networks.get(&vni).map_or("", String::as_str)
}

fn both(stats: &PathStats) -> [(&'static str, u64, u64); 2] {
    [
        (Direction::Tx.label(), stats.tx_packets, stats.tx_bytes),
        (Direction::Rx.label(), stats.rx_packets, stats.rx_bytes),
    ]
}

fn add(sum: &mut PathStats, other: &PathStats) {
    sum.tx_packets += other.tx_packets;
    sum.tx_bytes += other.tx_bytes;
    sum.rx_packets += other.rx_packets;
    sum.rx_bytes += other.rx_bytes;
}
