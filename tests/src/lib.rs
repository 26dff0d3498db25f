//! The harness: hosts made of network namespaces, the programs that run in them, and traffic.
//!
//! Everything made here carries the process id of its maker in its name, is removed when its
//! owner is dropped (also by a panic), and is swept by the next run if its maker was killed.
//!
//! The harness drives the agent only through its command line, its metrics and its files, so
//! that it can be built before the eBPF toolchain is there.

pub mod agent;
pub mod bare_redirect;
pub mod bpf;
pub mod bpffs;
pub mod capture;
pub mod cgroup;
pub mod clock;
pub mod command;
pub mod consul;
pub mod docker;
pub mod http;
pub mod interrupt;
pub mod kernel_overlay;
pub mod lab;
pub mod metrics;
pub mod names;
pub mod netns;
pub mod open_vswitch;
pub mod packages;
pub mod paths;
pub mod process;
pub mod prometheus;
pub mod store;
pub mod sweep;
pub mod traffic;
pub mod wait;
pub mod workdir;
