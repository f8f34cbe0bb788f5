//! The hot path: one thread per core, each with its own listener, connections, channels and timers.

pub mod accounts;
pub mod core;
pub mod driver;
pub mod letter;
pub mod listener;
pub mod mailbox;
pub mod slab;
mod sockets;
