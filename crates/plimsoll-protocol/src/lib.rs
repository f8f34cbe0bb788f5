//! Dialects of clients: bytes to commands, replies to bytes. No sockets, no channels of its own.

pub mod centrifugo;
pub mod json;
