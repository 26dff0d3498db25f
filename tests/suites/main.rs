//! The suites. Each private `mod` here is one suite that `cargo xtask test <suite>` runs; what
//! suites share is `pub(crate)`.
//!
//! They need root and run one test at a time: `cargo xtask test` sees to both.

mod attach;
mod conformance;
mod consul;
mod datapath;
mod docker;
mod doctor;
mod families;
mod faults;
mod flood;
mod footprint;
mod gateway;
mod harness;
mod interop;
mod isolation;
mod mistakes;
mod model;
mod moves;
mod names;
mod overlay;
mod ovs;
mod prometheus;
mod store_http;
pub(crate) mod support;
mod traffic;
mod wire;
