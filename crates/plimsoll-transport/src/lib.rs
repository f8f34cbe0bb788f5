//! WebSocket and HTTP framing without I/O.
//!
//! Bytes come in as slices and leave in vectors; limits are arguments. Nothing here knows a socket,
//! a clock or a thread, so that every path can be driven by a table, a property or a fuzzer.

pub mod deflate;
mod extensions;
pub mod handshake;
pub mod head;
mod origin;
pub mod ws;
