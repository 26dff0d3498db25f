//! How the figures are taken.

use std::{
    net::SocketAddr,
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use tests::traffic::{
    OnOneCpu, connections, iperf3, qperf, sockperf,
    udp::{self, UdpCounter},
};

use super::{
    arms::Path,
    metric::{Metric, Probe},
    softirq,
};

const UDP_PORT: u16 = 5003;
const SMALL: usize = 64;
const LARGE: usize = 1400;

/// How long to measure, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    pub(super) each: Duration,
}

impl Effort {
    pub(super) const QUICK: Self = Self {
        rounds: 5,
        each: Duration::from_secs(1),
    };
    pub(super) const FULL: Self = Self {
        rounds: 11,
        each: Duration::from_secs(2),
    };
}

impl Probe {
    /// One value for each of its metrics.
    pub(super) fn measure(self, path: &Path<'_>, each: Duration) -> Result<Vec<(Metric, f64)>> {
        let Path {
            from,
            to,
            address,
            folder,
            ..
        } = *path;
        let one_cpu = &path.on_one_cpu(each);
        let one = match self {
            Self::TcpRtt => (Metric::TcpRttUs, qperf::tcp_rtt_us(one_cpu)?),
            Self::UdpRtt => (Metric::UdpRttUs, qperf::udp_rtt_us(SMALL, one_cpu)?),
            Self::RoundTrips => {
                let rtt = sockperf::round_trips(SMALL, one_cpu)?;
                return Ok(vec![
                    (Metric::RttP50Us, rtt.p50_us),
                    (Metric::RttP99Us, rtt.p99_us),
                    (Metric::RttP999Us, rtt.p999_us),
                ]);
            }
            Self::Connections => (Metric::TcpCrrPerS, connections::per_second(one_cpu)?),
            Self::OneStream => {
                let before = softirq::seconds()?;
                let stream = iperf3::tcp(from, to, address, 1, each, folder)?;
                let spent = softirq::seconds()? - before;
                return Ok(vec![
                    (Metric::Tcp1Gbps, stream.gbps),
                    (Metric::SoftirqSPerGbit, spent / stream.gbit),
                ]);
            }
            Self::FourStreams => {
                let stream = iperf3::tcp(from, to, address, 4, each, folder)?;
                (Metric::Tcp4Gbps, stream.gbps)
            }
            Self::SmallDatagrams => (Metric::Udp64Kpps, datagrams(path, SMALL, each)? / 1e3),
            Self::LargeDatagrams => {
                let bits = 8.0 * LARGE as f64;
                (
                    Metric::Udp1400Gbps,
                    datagrams(path, LARGE, each)? * bits / 1e9,
                )
            }
            // They are run in their own way.
            Self::Junk | Self::Programs => return Ok(Vec::new()),
        };
        Ok(vec![one])
    }
}

impl Path<'_> {
    pub(super) fn on_one_cpu(&self, duration: Duration) -> OnOneCpu<'_> {
        OnOneCpu {
            from: self.from,
            to: self.to,
            address: self.address,
            cpu: last_cpu(),
            folder: self.folder,
            duration,
        }
    }
}

/// Received per second while the sender sends: what is still queued at its end is not a rate.
fn datagrams(path: &Path<'_>, length: usize, duration: Duration) -> Result<f64> {
    let address = SocketAddr::new(path.address, UDP_PORT);
    // The sender's CPU does the sending host's work and, by veth, most of the receiving one's.
    let counter = UdpCounter::start(path.to, address, Some(0))?;
    let started = Instant::now();
    udp::flood(path.from, address, length, duration, Some(last_cpu()))?;
    let elapsed = started.elapsed();
    let received = counter.received();
    counter.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 packets")]
    let rate = received as f64 / elapsed.as_secs_f64();
    Ok(rate)
}

/// Not the first one, which serves most interrupts.
pub(super) fn last_cpu() -> usize {
    thread::available_parallelism().map_or(0, |cpus: NonZero<usize>| cpus.get() - 1)
}
