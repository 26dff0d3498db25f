//! From what the store says to what the data path does.

pub mod desired;
pub mod lock;
pub mod node_id;
pub mod plan;
pub mod problem;
pub mod view;
