//! Real clients, real faults and bad input against the real binary.
//!
//! Nothing here uses a crate of the server: a mistake in its codec or its codes must not be
//! repeated by what checks it. Clients speak through tungstenite, or send bytes they made
//! themselves.
//!
//! Each test starts a server of its own on free loopback ports and ends it again. A run in which
//! too little happened is void, and a void run fails.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the callers are tests: a panic is how one fails"
)]

pub mod arena;
pub mod broker;
pub mod canary;
pub mod client;
pub mod fleet;
pub mod http;
pub mod ledger;
pub mod metrics;
pub mod raw;
pub mod server;
pub mod token;
pub mod wait;
