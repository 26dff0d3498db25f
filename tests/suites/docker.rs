//! Real Docker daemons, one on each host.

mod daemon;
mod traces;
