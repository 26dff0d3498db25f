//! The store: Consul's key-value API and what the overlay keeps there.
//!
//! [`client`] speaks HTTP and knows no schema; [`schema`] knows keys and records and does no
//! I/O; [`watch`], [`session`] and [`registry`] are what the agent uses.

pub(crate) mod backoff;
pub mod client;
pub mod config;
pub mod embedded;
pub mod error;
pub mod health;
pub mod moment;
pub mod registry;
pub mod schema;
pub mod session;
pub mod watch;

pub use client::{Client, KvPair};
pub use config::StoreConfig;
pub use error::{ErrorKind, StoreError};
pub use health::StoreHealth;
pub use moment::Moment;
pub use registry::{Registry, RegistryError};
pub use session::Session;
pub use watch::{Change, MembersWatch, NodeMembers, PrefixWatch, Snapshot, Witness};
