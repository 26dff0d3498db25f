//! Traffic between namespaces, and what arrived of it.

pub mod iperf3;
pub mod ping;
pub mod qperf;
pub mod tcp;
pub mod udp;
