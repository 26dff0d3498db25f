//! Traffic between namespaces, and what arrived of it.

pub mod connections;
pub mod flood;
pub mod iperf3;
pub mod junk;
pub mod napi;
pub mod ping;
pub mod ping_pong;
pub mod qperf;
pub mod sockperf;
pub mod tcp;
pub mod udp;

use std::{net::IpAddr, path::Path, time::Duration};

use crate::netns::Netns;

/// From where to where, with both ends on one CPU: a round trip's time is then the work that it takes,
/// and not how long another CPU needs to wake up.
#[derive(Debug, Clone, Copy)]
pub struct OnOneCpu<'a> {
    pub from: &'a Netns,
    pub to: &'a Netns,
    /// Of `to`.
    pub address: IpAddr,
    pub cpu: usize,
    /// For logs.
    pub folder: &'a Path,
    /// Whole seconds, at least one.
    pub duration: Duration,
}

impl OnOneCpu<'_> {
    fn cpu(&self) -> String {
        self.cpu.to_string()
    }

    fn seconds(&self) -> String {
        self.duration.as_secs().max(1).to_string()
    }
}
