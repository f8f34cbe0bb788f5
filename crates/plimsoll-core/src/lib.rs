//! Channels, publications, sessions, hub, history, presence: pure state machines.
//!
//! Nothing here owns a socket, a clock, a thread or randomness: bytes, events and `now` come in
//! as arguments, effects go out as values.

pub mod channel;
pub mod codes;
pub mod command;
pub mod history;
pub mod home;
pub mod hub;
pub mod limits;
pub mod link;
pub mod map;
pub mod model;
pub mod policy;
pub mod presence;
pub mod quota;
pub mod rate;
pub mod receipts;
pub mod session;
pub mod throttle;
pub mod tier;
pub mod token;
pub mod typing;
pub mod wheel;
