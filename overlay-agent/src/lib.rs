//! The agent: fills the data path's maps with what the store says.

pub mod datapath;
pub mod host;
pub mod ipam;
pub mod store;
