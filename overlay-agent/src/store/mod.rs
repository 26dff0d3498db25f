//! The store: what all hosts agree on.

pub mod embedded;
