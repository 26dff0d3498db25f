//! Every program against tables of frames (`BPF_PROG_TEST_RUN`): verdict, bytes, and the counters
//! that moved, all others standing still.

pub(crate) mod case;
mod endpoint_exception;
pub(crate) mod fixture;
mod flood;
pub(crate) mod frames;
mod from_endpoint;
mod from_fallback;
mod from_underlay;
mod from_underlay_ecn;
mod from_underlay_malformed;
mod from_underlay_refused;
mod handover;
mod service;
mod spread;
mod to_peer;
mod to_underlay;
mod underlay_filter;
pub(crate) mod world;
mod xdp_decap;
