//! What is measured, and how.

use std::{
    net::SocketAddr,
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::ValueEnum;
use tests::traffic::{
    iperf3, qperf,
    udp::{self, UdpCounter},
};

use super::arms::Path;

const UDP_PORT: u16 = 5003;
const UDP_PAYLOAD: usize = 64;

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Metric {
    /// TCP round trip of one byte in µs, both ends on one CPU
    #[value(name = "tcp_rtt_us")]
    TcpRttUs,
    /// One TCP stream, Gbit/s received
    #[value(name = "tcp_1_gbps")]
    Tcp1Gbps,
    /// UDP datagrams of 64 bytes received, thousands per second
    #[value(name = "udp64_kpps")]
    Udp64Kpps,
}

/// How long to measure, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    each: Duration,
}

impl Effort {
    pub(super) const QUICK: Self = Self {
        rounds: 5,
        each: Duration::from_secs(1),
    };
    pub(super) const FULL: Self = Self {
        rounds: 15,
        each: Duration::from_secs(3),
    };
}

impl Metric {
    /// As in the JSON report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TcpRttUs => "tcp_rtt_us",
            Self::Tcp1Gbps => "tcp_1_gbps",
            Self::Udp64Kpps => "udp64_kpps",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::TcpRttUs => "TCP 1-byte round trip, µs",
            Self::Tcp1Gbps => "TCP one stream, Gbit/s",
            Self::Udp64Kpps => "UDP 64 B received, kpps",
        }
    }

    /// Whether less is better.
    pub(super) fn is_cost(self) -> bool {
        match self {
            Self::TcpRttUs => true,
            Self::Tcp1Gbps | Self::Udp64Kpps => false,
        }
    }

    pub(super) fn measure(self, path: &Path<'_>, effort: Effort) -> Result<f64> {
        let Path {
            from,
            to,
            address,
            folder,
        } = *path;
        let each = effort.each;
        match self {
            Self::TcpRttUs => qperf::tcp_rtt_us(from, to, address, each, last_cpu(), folder),
            Self::Tcp1Gbps => iperf3::tcp_gbps(from, to, address, each, folder),
            Self::Udp64Kpps => udp_kpps(path, each),
        }
    }
}

/// Received while the sender sends: what is still queued at its end is not a rate.
fn udp_kpps(path: &Path<'_>, duration: Duration) -> Result<f64> {
    let address = SocketAddr::new(path.address, UDP_PORT);
    // The sender's CPU does the sending host's work and, by veth, most of the receiving one's.
    let counter = UdpCounter::start(path.to, address, Some(0))?;
    let started = Instant::now();
    udp::flood(path.from, address, UDP_PAYLOAD, duration, Some(last_cpu()))?;
    let elapsed = started.elapsed();
    let received = counter.received();
    counter.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 packets")]
    let rate = received as f64 / elapsed.as_secs_f64() / 1000.0;
    Ok(rate)
}

/// Not the first one, which serves most interrupts.
fn last_cpu() -> usize {
    thread::available_parallelism().map_or(0, |cpus: NonZero<usize>| cpus.get() - 1)
}
