//! The host's network configuration: links, addresses, routes and neighbours over netlink, and
//! what has to be there before anything is loaded. Knows nothing of BPF maps or programs.

pub mod checks;
pub mod endpoint;
pub mod fallback;
pub mod group;
pub mod headroom;
pub mod link;
pub mod mtu;
pub mod netlink;
mod netns;
pub mod nexthop;
pub mod owner;
mod routes;
pub mod service;
pub mod underlay;

pub use netlink::Netlink;
pub use owner::Owner;
