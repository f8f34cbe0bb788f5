//! Channels, publications, sessions, hub, history, presence: pure state machines.

pub mod limits;
pub mod policy;
pub mod token;
