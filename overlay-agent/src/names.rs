//! Names of containers on all hosts, for those that share a network: a name server at the service address.
//!
//! - [`table`] says what a name means to whoever asks.
//! - [`zone`] is that for the name server, [`upstream`] has the names that are nobody's here.
//! - [`serve`] runs it, on threads of its own: endpoints can ask as much as they like, and the agent has
//!   other things to do. [`transport`] says how much is answered at a time.

mod serve;
mod table;
mod transport;
mod upstream;
mod zone;

pub use serve::{THREAD, run};
pub use table::Names;
