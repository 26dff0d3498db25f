//! The kernel side: programs, maps, links and their pins.
//!
//! Programs and maps are pinned: they outlive the agent, and the next one replaces the programs
//! in place. Nothing here knows where the rows come from.

mod attach;
mod counters;
mod decap;
mod describe;
mod detach;
mod drop_log;
mod error;
mod headroom;
pub mod object;
mod open;
mod paths;
pub mod programs;
pub mod rows;
mod shape;
mod sys;
mod tables;
mod xdp;

pub use counters::MapUse;
pub use decap::{Decap, DecapMode};
pub use describe::{Difference, difference};
pub use detach::{Detached, detach_all, detach_programs};
pub use error::DatapathError;
pub use open::{Datapath, Settings};
pub use paths::Paths;
pub use tables::{Tables, TablesError};
pub use xdp::XdpMode;
