//! Giving out a network's addresses: one key per address, created only if it is not there.
//!
//! An address that an endpoint had is *released*: its record says since when, so that nobody else gets it for
//! [`COOL_DOWN`](crate::store::schema::COOL_DOWN). Whoever has released it deletes the record after that
//! ([`Allocator::reap`]); what a dead host leaves is taken when nothing else is free.

mod allocator;
mod claim;
mod error;
mod free;
#[cfg(test)]
mod model;
mod pool;
mod release;
mod settle;
mod store;
mod trend;
mod usage;

use std::net::IpAddr;

pub use allocator::Allocator;
pub use error::IpamError;
pub use pool::{Family, Pool};
pub use release::Cooling;
pub use settle::{Settled, Unasked};
pub use store::AddressStore;
pub use trend::Trend;
pub use usage::{Usage, Users};

use crate::store::schema::Nonce;

/// Which address is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Any of the family.
    Any(Family),
    /// Just this one.
    Address(IpAddr),
    /// Any of the family, but rather the one of before.
    Again(Former),
}

/// An address that an endpoint of this name had on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    pub ip: IpAddr,
    pub name: String,
    /// Of its record, if that was released a moment ago; else 0.
    pub index: u64,
}

/// An address that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub ip: IpAddr,
    /// Of the claim; see [`Allocator::release`].
    pub nonce: Nonce,
}
