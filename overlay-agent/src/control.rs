//! From what the store says to what the data path does.

mod admin;
mod adopt;
pub mod agent;
pub mod desired;
pub mod endpoints;
pub mod error;
mod follow;
mod interest;
pub mod lock;
pub mod names;
pub mod node_id;
pub mod plan;
pub mod problem;
mod queue;
mod register;
mod snapshot;
pub mod start;
mod status;
mod sync;
mod underlay;
mod utc;
pub mod view;
