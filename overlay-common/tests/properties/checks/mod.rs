//! What holds of every parser and decision, whatever the bytes. Each check takes bytes as a fuzzer
//! makes them and panics where something does not hold: no panic of the code itself, nothing said
//! of a frame that another parser (etherparse) does not say too, and no byte looked at that the
//! programs do not have at hand.

pub mod answers;
pub mod endpoint;
pub mod guard;
pub mod input;
pub mod parsers;
pub mod reference;
pub mod templates;
pub mod underlay;
pub mod world;
