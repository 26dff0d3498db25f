//! Frames that come in from the underlay.

mod admit;
mod classify;
mod decap;
mod early;
mod ipv4;
mod ipv6;

pub use admit::{Delivery, Receivers, admit, admit_inner, filter, tagged};
pub use classify::{Outer, Vxlan, classify, reach};
pub use decap::{Change, Family, Strip, decapsulable};
pub use early::strips_early;
