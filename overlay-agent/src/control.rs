//! From what the store says to what the data path does.

mod addresses;
mod admin;
mod adopt;
pub mod agent;
mod catalog;
pub mod desired;
pub mod endpoints;
pub mod error;
mod follow;
mod free;
mod interest;
mod liveness;
pub mod lock;
pub mod names;
pub mod node_id;
pub mod plan;
pub mod problem;
mod queue;
mod register;
mod released;
mod snapshot;
pub mod start;
mod status;
mod sync;
mod underlay;
mod utc;
pub mod view;
