//! The agent: fills the data path's maps with what the store says.

pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod datapath;
pub mod docker;
pub mod doctor;
pub mod host;
pub mod ipam;
pub mod metrics;
pub mod names;
pub mod store;
