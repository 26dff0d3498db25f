//! The kernel side: programs, maps, links and their pins.

pub mod object;
pub mod rows;
