//! How the command line talks to the agent: JSON over HTTP on a unix socket.

pub mod client;
pub mod server;
pub mod types;
