//! Names of containers on all hosts, for those that share a network: a name server at the service address.
//!
//! - [`table`] says what a name means to whoever asks.
//! - [`zone`] is that for the name server, [`upstream`] has the names that are nobody's here.
//! - [`serve`] runs it, on a thread of its own: endpoints can ask as much as they like, and the agent has
//!   other things to do.

mod serve;
mod table;
mod upstream;
mod zone;

pub use serve::run;
pub use table::{Asker, Names};
