//! Loading, attaching, taking over and removing the data path, and what the agent does to the
//! host's network configuration, each in namespaces of its own.

mod coexist;
mod decap;
mod drop_log;
mod endpoint;
mod lifecycle;
mod nexthop;
mod refusal;
mod tables;
mod underlay;
mod world;
mod xdp;
