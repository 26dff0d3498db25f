//! What the eBPF programs and the agent share: map layouts, names, drop reasons, and the pure
//! packet logic that decides what happens to a frame.
//!
//! Nothing here touches a kernel: the same code is compiled for the BPF target and for the host,
//! where it is tested.

#![cfg_attr(not(any(test, feature = "user")), no_std)]

pub mod decide;
mod drop_reason;
pub mod layout;
pub mod maps;
pub mod net;
pub mod packet;

pub use drop_reason::{Direction, DropReason, FallbackCause};
