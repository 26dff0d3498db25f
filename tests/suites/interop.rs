//! Against a plain Linux host: bridge, vxlan device, static forwarding entries, no agent.

mod bridge;
mod compare;
mod inner;
mod outer;
mod same;
mod senders;
