//! The figures, by the names that the JSON report has for them.

use clap::ValueEnum;

use super::{arms::Arm, link::Link};

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Metric {
    /// TCP round trip of one byte in µs, both ends on one CPU
    #[value(name = "tcp_rtt_us")]
    TcpRttUs,
    /// UDP round trip of 64 bytes in µs, both ends on one CPU
    #[value(name = "udp_rtt_us")]
    UdpRttUs,
    /// Median of single UDP round trips of 64 bytes in µs, both ends on one CPU
    #[value(name = "rtt_p50_us")]
    RttP50Us,
    /// Their 99th percentile
    #[value(name = "rtt_p99_us")]
    RttP99Us,
    /// Their 99.9th percentile
    #[value(name = "rtt_p999_us")]
    RttP999Us,
    /// TCP connections per second that carry one byte each way, both ends on one CPU
    #[value(name = "tcp_crr_per_s")]
    TcpCrrPerS,
    /// One TCP stream, Gbit/s received
    #[value(name = "tcp_1_gbps")]
    Tcp1Gbps,
    /// Four TCP streams, Gbit/s received
    #[value(name = "tcp_4_gbps")]
    Tcp4Gbps,
    /// Seconds that all CPUs are in soft interrupts for each Gbit of that one stream
    #[value(name = "softirq_s_per_gbit")]
    SoftirqSPerGbit,
    /// UDP datagrams of 64 bytes received, thousands per second
    #[value(name = "udp64_kpps")]
    Udp64Kpps,
    /// UDP datagrams of 1400 bytes received, Gbit/s
    #[value(name = "udp1400_gbps")]
    Udp1400Gbps,
    /// Share of round trips kept while junk VXLAN arrives on the same CPU
    #[value(name = "junk_flood_rtt")]
    JunkFloodRtt,
    /// How much of it was sent meanwhile, thousands per second
    #[value(name = "junk_sent_kpps")]
    JunkSentKpps,
    /// Time of each eBPF program per frame in ns, with 1, 1000 and 100 000 endpoints
    #[value(name = "program_ns")]
    ProgramNs,
}

/// What is run to get figures; some say more than one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Probe {
    TcpRtt,
    UdpRtt,
    RoundTrips,
    Connections,
    OneStream,
    FourStreams,
    SmallDatagrams,
    LargeDatagrams,
    /// With its own rounds, and not by way of every arm.
    Junk,
    /// Of the programs alone: no arms, no link.
    Programs,
}

impl Metric {
    /// What says enough in three minutes.
    pub(super) const QUICK: [Self; 6] = [
        Self::TcpRttUs,
        Self::UdpRttUs,
        Self::TcpCrrPerS,
        Self::Tcp1Gbps,
        Self::SoftirqSPerGbit,
        Self::Udp64Kpps,
    ];

    pub(super) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::TcpRttUs => "TCP 1-byte round trip, µs",
            Self::UdpRttUs => "UDP 64 B round trip, µs",
            Self::RttP50Us => "UDP 64 B round trip, p50, µs",
            Self::RttP99Us => "the same, p99, µs",
            Self::RttP999Us => "the same, p99.9, µs",
            Self::TcpCrrPerS => "TCP connections per second",
            Self::Tcp1Gbps => "TCP one stream, Gbit/s",
            Self::Tcp4Gbps => "TCP four streams, Gbit/s",
            Self::SoftirqSPerGbit => "softirq per Gbit, s",
            Self::Udp64Kpps => "UDP 64 B received, kpps",
            Self::Udp1400Gbps => "UDP 1400 B received, Gbit/s",
            Self::JunkFloodRtt => "share of round trips kept",
            Self::JunkSentKpps => "junk sent, kpps",
            Self::ProgramNs => "program, ns per frame",
        }
    }

    pub(super) fn probe(self) -> Probe {
        match self {
            Self::TcpRttUs => Probe::TcpRtt,
            Self::UdpRttUs => Probe::UdpRtt,
            Self::RttP50Us | Self::RttP99Us | Self::RttP999Us => Probe::RoundTrips,
            Self::TcpCrrPerS => Probe::Connections,
            Self::Tcp1Gbps | Self::SoftirqSPerGbit => Probe::OneStream,
            Self::Tcp4Gbps => Probe::FourStreams,
            Self::Udp64Kpps => Probe::SmallDatagrams,
            Self::Udp1400Gbps => Probe::LargeDatagrams,
            Self::JunkFloodRtt | Self::JunkSentKpps => Probe::Junk,
            Self::ProgramNs => Probe::Programs,
        }
    }

    /// Whether less is better.
    pub(super) fn is_cost(self) -> bool {
        match self {
            Self::TcpRttUs
            | Self::UdpRttUs
            | Self::RttP50Us
            | Self::RttP99Us
            | Self::RttP999Us
            | Self::SoftirqSPerGbit
            | Self::ProgramNs => true,
            Self::TcpCrrPerS
            | Self::Tcp1Gbps
            | Self::Tcp4Gbps
            | Self::Udp64Kpps
            | Self::Udp1400Gbps
            | Self::JunkFloodRtt
            | Self::JunkSentKpps => false,
        }
    }

    /// Whether it is what rarely happens, and so never the same twice.
    pub(super) fn is_tail(self) -> bool {
        matches!(self, Self::RttP99Us | Self::RttP999Us)
    }
}

impl Probe {
    /// Whether it is of the way through an arm.
    pub(super) fn takes(self, arm: Arm) -> bool {
        match self {
            Self::Programs => false,
            Self::Junk => matches!(arm, Arm::K | Arm::S | Arm::X),
            Self::TcpRtt
            | Self::UdpRtt
            | Self::RoundTrips
            | Self::Connections
            | Self::OneStream
            | Self::FourStreams
            | Self::SmallDatagrams
            | Self::LargeDatagrams => arm != Arm::X,
        }
    }

    /// Whether it is measured over such a link.
    pub(super) fn crosses(self, link: Link) -> bool {
        match self {
            Self::Programs => false,
            // Only there the receiver takes frames in where it is told to.
            Self::Junk => link == Link::Wire,
            Self::TcpRtt
            | Self::UdpRtt
            | Self::RoundTrips
            | Self::Connections
            | Self::OneStream
            | Self::FourStreams
            | Self::SmallDatagrams
            | Self::LargeDatagrams => true,
        }
    }
}
