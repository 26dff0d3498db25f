//! From what the store says to what the data path does.

pub mod plan;
