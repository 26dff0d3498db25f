//! What the overlay keeps in the store: keys, records and the rules they obey. No I/O.
//!
//! A corrupt key or value is reported alone and never spoils its neighbours.

mod id;
mod keys;
mod listing;
mod network;
mod records;
pub mod rules;
pub mod subnets;
#[cfg(test)]
mod tests;

pub use id::{EndpointId, NodeId, Nonce, ParseIdError};
pub use keys::{BUCKETS, EndpointPath, Keys, bucket};
pub use listing::{BadKey, Endpoint, Listing, Network, Node, decode, endpoints, networks, nodes};
pub use network::{
    DEFAULT_FLOOD_RATE, FloodMode, NetworkOptions, NetworkRecord, ParseFloodError, gateway_mac,
};
pub use records::{
    AddressRecord, COOL_DOWN, EndpointRecord, Extra, GATEWAY_HOLDER, Hint, NodeRecord, Owner,
    RESERVED_HOLDER, Revision, Schema, encode, keep_extra, unix_now,
};
pub use rules::RuleError;
